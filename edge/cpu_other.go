//go:build !unix

package edge

import "time"

// processorTime is not known here.
func processorTime() time.Duration { return 0 }

//go:build !unix

package sim

func cpu() float64 { return 0 }

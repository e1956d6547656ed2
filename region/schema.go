package region

import _ "embed"

//go:embed regions.schema.json
var schema string

// Schema is the JSON Schema (2020-12) of regions.yaml, for editors. It sees
// shapes only: [Parse] refuses whatever it refuses, and more.
func Schema() string { return schema }

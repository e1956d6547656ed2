package residency

import "go.yaml.in/yaml/v3"

// The shape of law.yaml. A key that is not here is an error; prose is read, and
// never applied (READING, rule 9).

type file struct {
	Meta struct {
		Version       int               `yaml:"version"`
		AsOf          string            `yaml:"as_of"`
		Unknown       string            `yaml:"default_for_unknown"`
		Scope         string            `yaml:"scope"`
		Combine       string            `yaml:"combine"`
		VerifiedVals  map[string]string `yaml:"verified_values"`
		VerifiedNote  string            `yaml:"verified_note"`
		Rules         map[string]string `yaml:"rules"`
		Planes        map[string]string `yaml:"planes"`
		BreakGlassVal map[string]string `yaml:"break_glass_values"`
	} `yaml:"meta"`
	Blocks        map[string]yaml.Node `yaml:"blocks"`
	Jurisdictions map[string]fileRow   `yaml:"jurisdictions"`
	Overlays      map[string]fileRow   `yaml:"overlays"`
	Facts         map[string]fileFact  `yaml:"facts"`
	Flags         map[string]fileFlag  `yaml:"flags"`
	DenyAll       []string             `yaml:"deny_everywhere"`
	Same          map[string]string    `yaml:"same_law_as"`
	Never         []string             `yaml:"not_participants"`
	Effective     map[string]string    `yaml:"effective"`
}

type fileRow struct {
	Regime        string       `yaml:"regime"`
	Media         *fileRule    `yaml:"media"`
	Relay         *fileRule    `yaml:"relay"`
	Stored        *fileRule    `yaml:"stored"`
	Default       *fileDefault `yaml:"product_default"`
	ContractRoute *bool        `yaml:"contract_route"`
	Retention     int          `yaml:"max_metadata_retention_days"`
	BreakGlass    fileBreak    `yaml:"break_glass"`
	Basis         []string     `yaml:"basis"`
	Source        []string     `yaml:"source"`
	Verified      string       `yaml:"verified"`
	Confidence    string       `yaml:"confidence"`
	Notes         string       `yaml:"notes"`
	Applies       string       `yaml:"applies"` // of an overlay
	Use           string       `yaml:"use"`
	Require       []string     `yaml:"require"`
	Note          string       `yaml:"note"`
}

// fileDefault is a product_default: a plane is home_only or a block.
type fileDefault struct {
	Media  *fileRule `yaml:"media"`
	Relay  *fileRule `yaml:"relay"`
	Stored *fileRule `yaml:"stored"`
}

type fileBreak struct {
	Value string `yaml:"value"`
	Basis string `yaml:"basis"`
}

type fileRule struct {
	Rule       string            `yaml:"rule"`
	Allow      []string          `yaml:"allow"`
	List       []string          `yaml:"list"`
	Cond       string            `yaml:"cond"`
	Require    []string          `yaml:"require"`
	Deny       []string          `yaml:"deny"`
	DenySource string            `yaml:"deny_source"`
	Exception  string            `yaml:"exception"`
	SDF        string            `yaml:"sdf_override"`
	Overlay    map[string]string `yaml:"overlay"`
}

type fileFact struct {
	Scope  string   `yaml:"scope"`
	When   string   `yaml:"when"`
	Note   string   `yaml:"note"`
	SameAs []string `yaml:"same_as"`
	Also   string   `yaml:"also"`
}

type fileFlag struct {
	Default bool     `yaml:"default"`
	Reach   []string `yaml:"reach"`
	Note    string   `yaml:"note"`
}

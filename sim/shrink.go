package sim

// Shrink is the shortest schedule found that still breaks the same rule: delta debugging
// over the actions (Zeller and Hildebrandt, 2002), until none can be taken out, or after
// limit runs.
func Shrink(sc *Script, rule string, limit int) *Script {
	fails := func(actions []Action) bool {
		if limit <= 0 {
			return false
		}
		limit--
		try := *sc
		try.Actions = actions
		s := Run(&try, nil)
		return s.Fault != nil && s.Fault.Rule == rule
	}
	best := sc.Actions
	for chunk := (len(best) + 1) / 2; chunk > 0; {
		cut := false
		for from := 0; from < len(best); {
			to := min(from+chunk, len(best))
			without := append(append([]Action{}, best[:from]...), best[to:]...)
			if fails(without) {
				best, cut = without, true
			} else {
				from = to
			}
		}
		switch {
		case chunk > 1:
			chunk /= 2
		case !cut:
			chunk = 0
		}
	}
	short := *sc
	short.Actions = best
	return &short
}

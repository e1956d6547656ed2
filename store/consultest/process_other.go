//go:build !linux

package consultest

func stopped(int) error { return nil }

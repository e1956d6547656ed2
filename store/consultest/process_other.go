//go:build !linux

package consultest

import "syscall"

func diesWithParent() *syscall.SysProcAttr { return nil }

func stopped(int) error { return nil }

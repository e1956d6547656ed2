package main

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// numberFlags read numbers in plain decimal: to kong 01600 is 896 and 0x10 is 16.
func numberFlags() kong.Option {
	read := kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
		var s string
		if err := ctx.Scan.PopValueInto("number", &s); err != nil {
			return err
		}
		digits := strings.TrimPrefix(s, "-")
		plain := digits == "0" || digits != "" && digits[0] != '0' && strings.Trim(digits, "0123456789") == ""
		if target.CanUint() {
			n, err := strconv.ParseUint(s, 10, target.Type().Bits())
			if err != nil || !plain {
				return fmt.Errorf("%.32q: want a whole number in plain decimal digits, at most %d", s, uint64(1)<<target.Type().Bits()-1)
			}
			target.SetUint(n)
			return nil
		}
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil || !plain {
			return fmt.Errorf("%.32q: want a whole number in plain decimal digits, such as 1600", s)
		}
		target.SetInt(n)
		return nil
	})
	return kong.OptionFunc(func(k *kong.Kong) error {
		for _, kind := range []reflect.Kind{reflect.Int, reflect.Uint8, reflect.Uint16} {
			if err := kong.KindMapper(kind, read).Apply(k); err != nil {
				return err
			}
		}
		return nil
	})
}

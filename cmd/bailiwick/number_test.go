package main

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func TestNumbersAreDecimal(t *testing.T) {
	for _, row := range []struct {
		in   string
		want int // -1: an error
	}{
		{"1600", 1600}, {"0", 0}, {"10", 10},
		{"01600", -1}, {"0x10", -1}, {"0o17", -1}, {"0b1", -1}, {"1_000", -1}, {"+5", -1}, {"1e3", -1}, {"", -1}, {" 5", -1}, {"٥", -1}, {"99999999999999999999", -1}, {"5.0", -1}, {"\ufeff5", -1},
	} {
		var c struct {
			Admits int
			Port   uint16
		}
		parser, err := kong.New(&c, numberFlags())
		if err != nil {
			t.Fatal(err)
		}
		for _, flag := range []string{"--admits=", "--port="} {
			_, err = parser.Parse([]string{flag + row.in})
			got := c.Admits
			if flag == "--port=" {
				got = int(c.Port)
			}
			if bad := row.want < 0; (err != nil) != bad || !bad && got != row.want || bad && !strings.Contains(err.Error(), "plain decimal digits") {
				t.Errorf("%s%q: got %d, %v; want %d", flag, row.in, got, err, row.want)
			}
		}
	}
	var out, err strings.Builder
	if code := run(t.Context(), []string{"dns", "--rate=010"}, strings.NewReader(""), &out, &err); code != exitMisuse || !strings.Contains(err.String(), `"010": want a whole number in plain decimal digits`) {
		t.Errorf("the program: exit %d, %s", code, err.String())
	}
}

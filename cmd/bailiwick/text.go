package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// columns is how wide the verbs print for people: it fits every terminal.
const columns = 80

// wrap prints text in lines of at most columns runes, the first after first and
// the others after hang spaces. A longer word has a line of its own.
func wrap(w io.Writer, first string, hang int, text string) {
	line, used, empty := first, utf8.RuneCountInString(first), true
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		if !empty && used+1+n > columns {
			fmt.Fprintln(w, line)
			line, used, empty = strings.Repeat(" ", hang), hang, true
		}
		if !empty {
			line, used = line+" ", used+1
		}
		line, used, empty = line+word, used+n, false
	}
	fmt.Fprintln(w, line)
}

// narrow prints a table of which the last column, headed so, is wrapped.
func narrow(w io.Writer, table, last string) {
	head, _, _ := strings.Cut(table, "\n")
	at := strings.Index(head, last) // columns are of single-width runes up to there
	for line := range strings.Lines(table) {
		wrap(w, line[:at], min(at, columns*2/3), line[at:])
	}
}

// count words a number of things: no errors, 1 error, 2 errors.
func count(n int, thing string) string {
	switch n {
	case 0:
		return "no " + thing + "s"
	case 1:
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

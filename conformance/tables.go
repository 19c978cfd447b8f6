package main

import (
	"bufio"
	"fmt"
	"unicode"
)

// boundaries lists where a property of code points begins and ends, by turns.
func boundaries(is func(rune) bool) []rune {
	list, inside := []rune{}, false
	for r := rune(0x80); r <= unicode.MaxRune+1; r++ {
		if now := r <= unicode.MaxRune && is(r); now != inside {
			list, inside = append(list, r), now
		}
	}
	return list
}

// folded gives the letters that stand for another one when case does not count, and that other one.
func folded() [][2]rune {
	list := [][2]rune{}
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !unicode.IsLetter(r) {
			continue
		}
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		if 'A' <= least && least <= 'Z' {
			least += 'a' - 'A'
		}
		if least != r {
			list = append(list, [2]rune{r, least})
		}
	}
	return list
}

func unicodeTables([][]byte) facts {
	return facts{
		"version":   unicode.Version,
		"letters":   boundaries(unicode.IsLetter),
		"printable": boundaries(unicode.IsPrint),
		"folded":    folded(),
	}
}

// writeTables writes what crates/gomod/src/unicode.rs has as tables.
func writeTables(out *bufio.Writer) {
	table := func(name string, list []rune) {
		fmt.Fprintf(out, "const %s: [u32; %d] = [", name, len(list))
		for _, r := range list {
			fmt.Fprintf(out, "0x%x,", r)
		}
		fmt.Fprintln(out, "];")
	}
	fmt.Fprintln(out, "// Unicode", unicode.Version)
	table("LETTERS", boundaries(unicode.IsLetter))
	table("PRINTABLE", boundaries(unicode.IsPrint))
}

// Command conformance answers with golang.org/x/mod, for the tests of crates/gomod. See README.md.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

// A question is one line of input.
type question struct {
	Op   string   `json:"op"`
	Args [][]byte `json:"args"`
}

// facts is an answer: what each function of the reference says, by a name that both sides agree on.
// A string that is not UTF-8 is written with U+FFFD for each bad byte, as encoding/json does.
type facts map[string]any

var operations = map[string]func(args [][]byte) facts{
	"path":    paths,
	"version": versions,
	"compare": compare,
	"check":   check,
	"pseudo":  pseudo,
	"match":   match,
	"gomod":   goMod,
	"h1mod":   goModHash,
	"synth":   synthesized,
	"zip":     checkZip,
	"files":   checkFiles,
	"unicode": unicodeTables,
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	if len(os.Args) == 2 && os.Args[1] == "unicode" {
		writeTables(out)
		flush(out)
		return
	}
	in := json.NewDecoder(bufio.NewReaderSize(os.Stdin, 1<<20))
	encoder := json.NewEncoder(out)
	for in.More() {
		var asked question
		if err := in.Decode(&asked); err != nil {
			fail(err)
		}
		operation := operations[asked.Op]
		if operation == nil {
			fail(fmt.Errorf("no operation %q", asked.Op))
		}
		if err := encoder.Encode(operation(asked.Args)); err != nil {
			fail(err)
		}
	}
	flush(out)
}

func flush(out *bufio.Writer) {
	if err := out.Flush(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "conformance:", err)
	os.Exit(1)
}

// orNull gives the text, or null where the reference refuses.
func orNull(text string, err error) any {
	if err != nil {
		return nil
	}
	return text
}

package main

import (
	"bytes"
	"io"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/sumdb/dirhash"
)

func goMod(args [][]byte) facts {
	return facts{
		"lax":    described(modfile.ParseLax("go.mod", args[0], nil)),
		"strict": described(modfile.Parse("go.mod", args[0], nil)),
	}
}

func described(file *modfile.File, err error) any {
	if err != nil {
		return nil
	}
	answer := facts{"module": nil, "go": nil, "toolchain": nil}
	if file.Module != nil {
		answer["module"] = []string{file.Module.Mod.Path, file.Module.Deprecated}
	}
	if file.Go != nil {
		answer["go"] = file.Go.Version
	}
	if file.Toolchain != nil {
		answer["toolchain"] = file.Toolchain.Name
	}
	require, exclude, replace, retract := [][]any{}, [][]string{}, [][]string{}, [][]string{}
	for _, r := range file.Require {
		require = append(require, []any{r.Mod.Path, r.Mod.Version, r.Indirect})
	}
	for _, e := range file.Exclude {
		exclude = append(exclude, []string{e.Mod.Path, e.Mod.Version})
	}
	for _, r := range file.Replace {
		replace = append(replace, []string{r.Old.Path, r.Old.Version, r.New.Path, r.New.Version})
	}
	for _, r := range file.Retract {
		retract = append(retract, []string{r.Low, r.High, r.Rationale})
	}
	answer["require"], answer["exclude"], answer["replace"], answer["retract"] = require, exclude, replace, retract
	return answer
}

func goModHash(args [][]byte) facts {
	open := func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(args[0])), nil }
	return facts{"h1": orNull(dirhash.Hash1([]string{"go.mod"}, open))}
}

#!/usr/bin/env bash
# Runs every fuzz target on its seeds and then SECONDS_EACH (default 60) seconds further. Needs the nightly toolchain.
# Without `cargo fuzz`, which would be built from source first: the same compiler flags by hand.
set -euo pipefail
cd "$(dirname "$0")"
each="${SECONDS_EACH:-60}"
host="$(rustc -vV | sed -n 's/^host: //p')"
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Ccodegen-units=1"
# C code that includes one file twice has its constants twice.
export ASAN_OPTIONS="detect_odr_violation=0"
target="${CARGO_TARGET_DIR:-target}/fuzz"
cargo +nightly build --quiet --release --target "$host" --target-dir "$target"
for source in fuzz_targets/*.rs; do
  name="$(basename "$source" .rs)"
  work="$(mktemp -d)"
  echo "-- $name"
  if ! "$target/$host/release/$name" -max_total_time="$each" -rss_limit_mb=2048 -verbosity=0 -print_final_stats=0 -artifact_prefix="$work/" "$work" "corpus/$name" 2>"$work/log"; then
    tail -40 "$work/log" >&2
    exit 1
  fi
  rm -rf "$work"
done

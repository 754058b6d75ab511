#!/bin/sh
# Brings libtorch 2.11.0 to .libtorch/, once. `make setup`, or `make setup CUDA=1` for the CUDA libraries as well.
#
# The download (the PyTorch wheel, 1.2 GB unpacked, 4.7 GB with CUDA) lies in a cache folder that clones share;
# .libtorch is a link to it, so `make` and plain `cargo` see the same path. No Python is needed once it is there.
set -eu

VERSION=2.11.0
CACHE=${MIXARENA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mixarena}
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  help: %s\n' "$line" >&2; done
    exit 3
}

# The version a libtorch folder states: wheels in version.py, the zip archives in build-version.
version_of() {
    if [ -f "$1/version.py" ]; then
        sed -n "s/^__version__ = ['\"]\([0-9.]*\).*/\1/p" "$1/version.py"
    elif [ -f "$1/build-version" ]; then
        sed 's/[^0-9.].*//' "$1/build-version"
    fi
}
usable() { [ -f "$1/lib/libtorch_cpu.so" ] && [ "$(version_of "$1")" = "$VERSION" ]; }
has_cuda() { [ -f "$1/lib/libtorch_cuda.so" ] && [ -d "$1/../nvidia/cudnn" ]; }
link() {
    if [ -e .libtorch ] && [ ! -L .libtorch ]; then
        fail ".libtorch is a folder of your own with another libtorch" "move it away and run \`make setup\` again"
    fi
    ln -sfn "$1" .libtorch
    say "libtorch $VERSION ready: .libtorch -> $1"
}

command -v cargo >/dev/null 2>&1 || fail "cargo is missing" "install Rust 1.95 or newer with rustup (https://rustup.rs)"
command -v c++ >/dev/null 2>&1 || fail "a C++ compiler is missing" "install g++ (Debian, Ubuntu: apt-get install g++)"

# A libtorch of the user's own wins.
if [ -n "${LIBTORCH:-}" ]; then
    [ -d "$LIBTORCH" ] || fail "LIBTORCH is $LIBTORCH, which is not a folder" "unset LIBTORCH to let setup fetch libtorch $VERSION"
    found=$(version_of "$LIBTORCH")
    [ "$found" = "$VERSION" ] || fail "LIBTORCH holds version ${found:-unknown}, needed is $VERSION" \
        "unset LIBTORCH to let setup fetch it, or point it at the torch folder of torch==$VERSION"
    [ -f "$LIBTORCH/lib/libtorch_cpu.so" ] || fail "$LIBTORCH/lib/libtorch_cpu.so is missing" "point LIBTORCH at the folder that holds lib/ and include/"
    if [ -e .libtorch ] && [ ! -L .libtorch ]; then say "using LIBTORCH=$LIBTORCH"; else link "$LIBTORCH"; fi
    exit 0
fi

if usable .libtorch && { [ -z "${CUDA:-}" ] || has_cuda "$(readlink -f .libtorch)"; }; then
    say "libtorch $VERSION is there: .libtorch -> $(readlink -f .libtorch)"
    exit 0
fi

NAME=libtorch-$VERSION
NEEDED_GB=3
if [ -n "${CUDA:-}" ]; then NAME=$NAME-cuda NEEDED_GB=12; fi
DIR=$CACHE/$NAME
if usable "$DIR/torch"; then
    link "$DIR/torch"
    exit 0
fi

OWN="or unpack libtorch $VERSION yourself and set LIBTORCH to its folder"
case "$(uname -s) $(uname -m)" in
    "Linux x86_64") ;;
    *) fail "there is no CPU wheel of libtorch $VERSION tried by this project for $(uname -s) $(uname -m)" "use Linux on x86-64, $OWN" ;;
esac
PYTHON=
for candidate in "${PYTHON3:-python3}" python; do
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -m pip --version >/dev/null 2>&1; then PYTHON=$candidate && break; fi
done
[ -n "$PYTHON" ] || fail "Python's pip is missing; it is needed once, to fetch libtorch" \
    "install it (Debian, Ubuntu: apt-get install python3-pip), $OWN"
mkdir -p "$CACHE" 2>/dev/null || fail "$CACHE cannot be made" "set MIXARENA_CACHE to a folder that can be written"
free_kb=$(df -Pk "$CACHE" | awk 'NR == 2 { print $4 }')
[ "$free_kb" -ge $((NEEDED_GB * 1024 * 1024)) ] || fail "$CACHE has $((free_kb / 1024)) MB free, $NEEDED_GB GB are needed" \
    "free some space, or set MIXARENA_CACHE to a folder on a larger disk"

# Into a folder of its own, renamed at the end: a cut download is never taken for a whole one.
PARTIAL=$DIR.partial.$$
trap 'rm -rf "$PARTIAL"' EXIT
trap 'exit 130' INT TERM
say "fetching libtorch $VERSION (once; 0.5 GB to download, 1.2 GB unpacked; with CUDA 4.7 GB) into $DIR"
if [ -n "${CUDA:-}" ]; then
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --target "$PARTIAL" "torch==$VERSION"
else
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps --target "$PARTIAL" \
        "torch==$VERSION" nvidia-cuda-cupti==13.0.85 nvidia-cuda-runtime==13.0.96
fi || fail "pip could not install torch==$VERSION with $("$PYTHON" --version 2>&1)" \
    "check the network, and that Python is 3.10 to 3.14, for which there are wheels (PYTHON3=python3.11 make setup picks another), $OWN"
usable "$PARTIAL/torch" || fail "what pip brought is not libtorch $VERSION" "delete $CACHE and run \`make setup\` again"
rm -rf "$DIR"
mv "$PARTIAL" "$DIR"
link "$DIR/torch"

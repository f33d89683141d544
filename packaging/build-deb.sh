#!/bin/bash
# build-deb.sh [DIRECTORY]: build the packages osdetectord and osdctl from this tree into dist/ or DIRECTORY.
# debian/ lives in packaging/; dpkg wants it on top, so that the tree is built as a copy.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C.UTF-8
top=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "${1:-$top/dist}"
out=$(cd "${1:-$top/dist}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/osdetectord"

cd "$top"
if git rev-parse --verify --quiet HEAD >/dev/null 2>&1; then
    # what is in the checkout, changed or new, but nothing that is ignored
    git ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' path; do [ ! -e "$path" ] || printf '%s\0' "$path"; done |
        tar -c --null --files-from=- | tar -x -C "$work/osdetectord"
else
    tar -c --exclude=./dist --exclude=./.venv --exclude=__pycache__ . | tar -x -C "$work/osdetectord"
fi
mv "$work/osdetectord/packaging/debian" "$work/osdetectord/debian"

cd "$work/osdetectord"
# no compiler is needed, which dpkg asks for in any case (build-essential)
dpkg-checkbuilddeps -I
dpkg-buildpackage --no-sign --build=binary --no-check-builddeps
rm -f "$out"/osdetectord_* "$out"/osdctl_*
cp "$work"/*.deb "$work"/*.changes "$work"/*.buildinfo "$out"

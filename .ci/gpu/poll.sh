# `bash /tmp/poll.sh SECONDS [FOLDER]` on the lent machine: waits so long, or until what trains beside it ends, and tells how it goes.
# The newest samples come back, and once all has ended FOLDER's files, a checkpoint's parts.
here=$(cd "$(dirname "$0")" && pwd)
running() {
    for pid in $(ls "$here/running" 2> /dev/null); do
        kill -0 "$pid" 2> /dev/null && return 0
    done
    return 1
}
end=$(($(date +%s) + $1))
while running && [ "$(date +%s)" -lt $end ]; do sleep 1; done
for log in "$here"/*.log; do
    echo "== $log"
    grep -v Loading "$log" | tail -20
done
number=0
for picture in $(ls -t "$here"/run/samples/*.png 2> /dev/null | head -1) "$here"/contest/fetch/*.png; do
    [ -f "$picture" ] && cp "$picture" "$OUT/$((number += 1))-$(basename "$picture")"
done
if ! running; then
    echo "All has ended."
    [ -z "${2:-}" ] || cp "$2"/* "$OUT/"
fi

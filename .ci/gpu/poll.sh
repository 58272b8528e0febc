# `bash /tmp/poll.sh SECONDS [FOLDER]` on the lent machine: waits so long, or until what trains beside it ends, and tells how it goes.
# The newest samples come back, and FOLDER's files, a checkpoint's parts, once all has ended.
running() {
    for pid in $(ls /tmp/running 2> /dev/null); do
        kill -0 "$pid" 2> /dev/null && return 0
    done
    return 1
}
end=$(($(date +%s) + $1))
while running && [ "$(date +%s)" -lt $end ]; do sleep 2; done
for log in /tmp/*.log; do
    echo "== $log"
    grep -v Loading "$log" | tail -20
done
samples=0
for picture in $(ls -t /tmp/run/samples/*.png 2> /dev/null | head -1) /tmp/contest/fetch/*.png; do
    [ -f "$picture" ] && cp "$picture" "$OUT/$((samples += 1))-$(basename "$picture")"
done
if ! running; then
    echo "All has ended."
    [ -z "${2:-}" ] || cp "$2"/* "$OUT/"
fi

# `bash /tmp/poll.sh SECONDS` on the lent machine: waits so long, or until the training that runs beside it ends, and tells how it goes.
# Its newest samples come back, and its checkpoint too once it has ended.
running() { kill -0 "$(cat /tmp/pid)" 2> /dev/null; }
end=$(($(date +%s) + $1))
while running && [ "$(date +%s)" -lt $end ]; do sleep 2; done
grep -v Loading /tmp/log | tail -30
cp /tmp/fetch/samples.png /tmp/log $OUT/ 2> /dev/null
if ! running; then
    echo "The training has ended."
    cp /tmp/fetch/exported.tar.* $OUT/
fi

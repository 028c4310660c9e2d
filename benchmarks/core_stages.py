"""Where the core's time goes, without Python: writes benchmarks/results/core_stages.json.

    python benchmarks/core_stages.py

Compiles core/bench/stages.cpp and runs it on 100,000 English texts of about 105 bytes, with a 29.5k x 256 table:
reading the bytes, ids, and whole vectors, with every kernel; over all texts, over 1,000 of them again and again, and
over one, which is the floor: everything is in the cache, and every branch is known.
"""

import json
import platform
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from core_speed import DATA, sentences

from nestling.safe import write_text
from nestling.text.packed import PackedTokenizer
from nestling.text.plan import check_plan

ROOT = Path(__file__).parent.parent
OUT = ROOT / "benchmarks" / "results" / "core_stages.json"
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off"]
AVX512 = ["-mavx512f", "-mavx512bw"]
WIDE = {
    "kernels_avx2.cpp": ["-mavx2"],
    "kernels_avx512.cpp": AVX512,
    "kernels_vnni.cpp": [*AVX512, "-mavx512vnni"],
}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        report = run(build(Path(scratch)), Path(scratch))
    report["command"] = "python benchmarks/core_stages.py"
    report["unit"] = "ns of CPU time a text, least of 9 rounds"
    write_text(OUT, json.dumps(report, indent=1) + "\n")
    print(OUT.read_text())


def build(scratch: Path) -> Path:
    sources = {"bench/stages.cpp": [], "kernels.cpp": [], "kernels_plain.cpp": []}
    if platform.machine() == "x86_64":
        sources = {each: ["-DNEST_WIDE=1"] for each in sources} | WIDE
    objects = []
    for source, flags in sources.items():
        objects.append(scratch / f"{Path(source).stem}.o")
        compile_ = ["c++", *FLAGS, *flags, "-c", str(ROOT / "core" / source), "-o", str(objects[-1])]
        subprocess.run(compile_, check=True)
    subprocess.run(["c++", *map(str, objects), "-o", str(scratch / "stages")], check=True)
    return scratch / "stages"


def run(program: Path, scratch: Path) -> dict[str, object]:
    plan = check_plan((DATA / "peers/potion-base-4M-int8/tokenizer.json").read_text(encoding="utf-8"), "potion")
    packed = PackedTokenizer.of(plan, "potion")
    files = {"vocabulary": packed.vocabulary, "order": np.asarray(packed.order).tobytes()}
    files["texts"] = "".join(" ".join(text.split()) + "\n" for text in sentences()[:100_000]).encode()
    for name, content in files.items():
        (scratch / name).write_bytes(content)
    unknown = plan["model"]["vocab"][plan["model"]["unk_token"]]
    command = [str(program), *(str(scratch / name) for name in files), str(unknown)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report: dict[str, object] = json.loads(done.stdout)
    return report


if __name__ == "__main__":
    main()

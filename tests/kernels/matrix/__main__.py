"""The command line: see tests/kernels/README.md."""

import argparse
import fnmatch
import gzip
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from . import debian, document, guest, payload, project, report
from .images import Image, Job, jobs_of, read_list, version
from .verdict import judge, promised

# As Automake and Meson say that a test cannot run.
SKIPPED = 77
KERNELS = "5.10,6.1,6.12,6.16,6.17,6.18,7.2"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/kernels/run.sh", description=__doc__)
    parser.add_argument("lists", nargs="*", type=Path, metavar="LIST", help="image lists instead of the own")
    parser.add_argument("-k", "--kernels", default=KERNELS, help="such as 6.1,7.2,host")
    parser.add_argument("-j", "--parallel", type=int, default=os.cpu_count(), help="guests at a time")
    parser.add_argument("-t", "--patience", type=float, default=120, help="seconds of silence that mean a hang")
    parser.add_argument("-o", "--output", type=Path, help="keep results, manifests and logs here")
    parser.add_argument("--report", type=Path, metavar="PAGE", help="replace the tables in this page")
    parser.add_argument("--brief", action="store_true",
                        help="no golden images nor others that are for the whole matrix, none by file where there is another "
                             "way, and none that an older one of the kernels must read anyway")
    parser.add_argument("--table", action="store_true", help="print every cell, not failures alone")
    parser.add_argument("--only", default="*", help="images with such names")
    parser.add_argument("--release", action="store_true", help="write images by the program with optimisations")
    parser.add_argument("--fetch-only", action="store_true", help="fetch what is missing in the cache, and end")
    return parser.parse_args()


def fetch(wanted: list[str]) -> dict[str, debian.Kernel]:
    kernels = {}
    for name in wanted:
        if name != "host":
            kernels[name] = debian.kernel(name)
            print(f"{name}: {kernels[name].package} {kernels[name].version}", file=sys.stderr)
    return kernels


def host_config() -> dict[str, str]:
    packed = Path("/proc/config.gz")
    if packed.exists():
        return debian.parse_config(gzip.decompress(packed.read_bytes()).decode())
    return debian.parse_config(Path(f"/boot/config-{os.uname().release}").read_text())


def run_all(wanted: list[str], kernels: dict[str, debian.Kernel], images: list[Image], setup: guest.Setup,
            options: argparse.Namespace) -> report.Results:
    jobs, parallel = jobs_of(images), options.parallel
    asked = {name: not_asked_before(jobs, name, kernels) if options.brief else jobs for name in wanted}
    # A guest has one processor, and some kernels have more to read than others.
    parts = min(parallel, len(jobs)) if len(wanted) < 2 * parallel else 1

    def run(name: str, part: int) -> guest.Run:
        if name == "host":
            return guest.run_host(asked[name], images, setup)
        return guest.run_guests(kernels[name], asked[name][part::parts], setup, part)

    tasks = [(name, part) for name in reversed(wanted) for part in range(1 if name == "host" else parts)]
    runs = {name: guest.Run(name) for name in wanted}
    with ThreadPoolExecutor(parallel) as pool:
        for (name, _), done in zip(tasks, pool.map(run, *zip(*tasks))):
            runs[name].add(done)
    return report.Results(wanted, jobs, runs, judge_all(jobs, asked, runs, kernels))


def not_asked_before(jobs: list[Job], name: str, kernels: dict[str, debian.Kernel]) -> list[Job]:
    """What no older one of the kernels must read anyway: kernels go on reading what they read."""
    older = [kernel for other, kernel in kernels.items() if name in kernels and version(other) < version(name)]
    return [job for job in jobs if not any(promised(job, version(kernel.wanted), kernel.config) for kernel in older)]


def judge_all(jobs: list[Job], asked: dict[str, list[Job]], runs: dict[str, guest.Run],
              kernels: dict[str, debian.Kernel]) -> report.Cells:
    cells: report.Cells = {job.id: {} for job in jobs}
    for name, run in runs.items():
        config = kernels[name].config if name in kernels else host_config()
        release = version(run.release() or name.replace("host", "0"))
        for job in asked[name]:
            if name in kernels or job.id in run.records:
                cells[job.id][name] = judge(job, run.records.get(job.id), release, config)
    return cells


def matrix(options: argparse.Namespace, kernels: dict[str, debian.Kernel], work: Path) -> report.Results:
    """Makes the images, runs everything and leaves the files in the folder."""
    setup = guest.Setup(project.agent(), work, options.patience)
    with TemporaryDirectory(prefix="images.", dir=work) as folder:
        lists = options.lists or [project.images(Path(folder), setup.agent, options.release)]
        images = [image for path in lists for image in read_list(path) if fnmatch.fnmatch(image.name, options.only)]
        if options.brief:
            images = [image for image in images if image.brief and image.group != "golden"]
            for image in images:
                image.modes = [mode for mode in image.modes if mode != "file"] or image.modes
        payload.build(setup.disk, images)
        results = run_all(options.kernels.split(","), kernels, images, setup, options)
        setup.disk.unlink()
    report.write_files(results, work)
    return results


def temporary_folder() -> Path:
    """Not /tmp: Debian 13 keeps it in memory, from where the kernel mounts no image."""
    folder = Path(os.environ.get("TMPDIR") or project.built() / "tmp")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main() -> int:
    options = arguments()
    began = time.monotonic()
    try:
        kernels = fetch(options.kernels.split(","))
        if options.fetch_only:
            return 0
        with TemporaryDirectory(prefix="kernels.", dir=temporary_folder()) as temporary:
            work = options.output.absolute() if options.output else Path(temporary)
            work.mkdir(parents=True, exist_ok=True)
            results = matrix(options, kernels, work)
    except project.Missing as reason:
        print(f"skipped, because {reason}", file=sys.stderr)
        # Continuous integration must have everything.
        return 1 if os.environ.get("CI") == "true" else SKIPPED
    except (LookupError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if options.report:
        document.write(options.report, results)
    if options.table:
        print(report.table(results))
    print(report.summary(results))
    failures = len(results.failures())
    print(f"{len(results.jobs)} jobs on each of {len(results.kernels)} kernels, {failures} failures, "
          f"{time.monotonic() - began:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

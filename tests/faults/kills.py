"""kill -9 at random moments: half of them by the clock, half in the place of a random change to a file.

The second kind meets the moments that matter (a rename, the opening of a file) as often as the clock meets the long
stretches between them.
"""

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from facekd.common.errors import FacekdError
from tests.faults.jobs import Job


@dataclass
class Kills:
    """What became of a job that was killed: kills that struck, and each finding in a line.

    Attributes:
        left: temporary files and folders that lay about after the job was run to its end.
    """

    struck: int = 0
    attempts: int = 0
    seconds: float = 0.0
    operations: int = 0
    left: int = 0
    findings: list[str] = field(default_factory=list)


def kill_job(job: Job, folder: Path, *, kills: int, seed: int = 0) -> Kills:
    """Kills `job` again and again until `kills` struck; after each, what is there must be whole, or not there.

    A job that goes on (training) keeps its place until it ends, then begins a new one. One that replaces (`over`)
    begins with the earlier result in place, which must be there until the new one is.
    """
    generator = random.Random(seed)
    folder.mkdir(parents=True)
    found = Kills()
    whole = folder / "reference" / "out"
    ended = job.run(whole)
    reference, wrong = job.look(whole)
    if ended.how != "done" or reference is None:
        raise FacekdError(f"{job.name} fails without a kill: {ended.how} {ended.said} {ended.output[-300:]} {wrong}")
    found.seconds, found.operations = ended.seconds, ended.operations
    earlier: str | None = None
    if job.over is not None:
        Job(name=job.name, words=job.over, digest=job.digest).run(folder / "earlier" / "out")
        earlier = job.digest(folder / "earlier" / "out")
    place = folder / "0" / "out"
    while found.struck < kills:
        if not place.parent.exists() and job.over is not None:
            shutil.copytree(folder / "earlier", place.parent)
        before, _ = job.look(place)
        found.attempts += 1
        by_clock = found.attempts % 2 == 1
        moment = generator.uniform(0, ended.seconds) if by_clock else generator.randint(1, max(ended.operations, 1))
        what = f"{job.name}, kill {found.attempts} " + (f"after {moment:.2f} s" if by_clock else f"at change {moment}")
        outcome = job.run(place, **{"kill_after_s" if by_clock else "kill_at": moment})
        found.struck += outcome.how == "killed"
        if outcome.how not in ("killed", "done"):
            found.findings.append(f"{what}: {outcome.how} {outcome.said} {outcome.output[-200:]}")
        there, wrong = job.look(place)
        if wrong:
            found.findings.append(f"{what}: what it left is damaged: {wrong}")
        if there not in {None, earlier, reference} or (there is None and before is not None):
            found.findings.append(f"{what}: what was there before is gone or changed")
        if outcome.how == "killed" and job.name == "train" and found.attempts % 4:
            continue  # killed again before it ends
        again = job.run(place)
        there, wrong = job.look(place)
        if again.how != "done" or there != reference:
            found.findings.append(f"{what}: not resumable: {again.how} {again.output[-200:]} {wrong}")
        found.left += sum(1 for path in place.parent.rglob(".*"))
        place = folder / str(found.attempts) / "out"
    return found

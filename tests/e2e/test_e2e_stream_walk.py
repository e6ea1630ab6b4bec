"""Random walks of streams: a sample here, many with scripts/stream_walk."""

import os
from collections import Counter

from stream_walk import Walk

WALKS = int(os.environ.get("PTPROXY_STREAM_WALKS", "150"))


def test_walks():
    total = Counter()
    for seed in range(WALKS):
        try:
            total += Walk(seed).run()
        except BaseException:
            print(f"seed {seed}")
            raise
    assert total["cuts"] > WALKS / 4
    assert total["MeetingError"] > WALKS / 20
    assert total["rekeyed"] > WALKS / 4
    assert total["meetings"] > WALKS

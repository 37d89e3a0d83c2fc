"""The proxy A-distance against what it must be, and its split by video."""

import numpy as np
import pytest
from cia_adapt.results.report.sections.distance import proxy_a_distance

RANDOM = np.random.default_rng(0)


def clips(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def test_domains_far_apart_have_distance_2_and_equal_ones_about_0():
    source, target = RANDOM.normal(size=(400, 8)), RANDOM.normal(size=(300, 8))
    names = clips(400), clips(300)
    assert proxy_a_distance(source, target + 20, names, 0) == 2
    assert proxy_a_distance(source, target, names, 0) < 0.35
    assert proxy_a_distance(source, target + 1, names, 0) == proxy_a_distance(source, target + 1, names, 0)
    apart = [proxy_a_distance(source, target + shift, names, 0) for shift in (0.2, 0.5, 1)]
    assert apart == sorted(apart)


def test_unequal_numbers_of_clips_are_no_distance():
    """Ninety clips of a hundred are the source's: who always says "source" is wrong in 10 %, and the distance is still 0."""
    assert proxy_a_distance(RANDOM.normal(size=(900, 4)), RANDOM.normal(size=(100, 4)), (clips(900), clips(100)), 0) < 0.4


def test_copies_of_one_video_do_not_tell_the_domains_apart():
    """Each video is there ten times. Split by clip, its copies are known by heart; split by video they say nothing."""
    videos = RANDOM.normal(size=(2, 60, 200))
    source, target = (np.repeat(one, 10, axis=0) for one in videos)
    names = [str(i // 10) for i in range(600)]
    by_clip = proxy_a_distance(source, target, (clips(600), clips(600)), 0)
    assert by_clip > 1.5 and proxy_a_distance(source, target, (names, names), 0) < 0.7


def test_a_domain_of_one_video_cannot_be_split():
    with pytest.raises(ValueError):
        proxy_a_distance(np.ones((4, 2)), np.ones((4, 2)), (["v"] * 4, clips(4)), 0)

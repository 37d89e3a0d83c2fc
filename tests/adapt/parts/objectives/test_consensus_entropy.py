import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import consensus_entropy as mec
from cia_extract.common.errors import UsageError

from tests.adapt.objective_parts import SOURCE, Z2, Z, arrays, output, slow_cross_entropy, slow_entropy, step
from tests.adapt.runs_of import trained_and_resumed, trainer_of


def slow_loss(streams: list[np.ndarray]) -> float:
    """The least mean cross-entropy that any one class has, clip by clip."""
    clips, classes = streams[0].shape
    of_clips = [min(np.mean([slow_cross_entropy(x[i], y) for x in streams]) for y in range(classes)) for i in range(clips)]
    return float(np.mean(of_clips))


def test_value_known_from_the_formula():
    assert float(mec.consensus_entropy([Z, Z2])) == pytest.approx(0.626359, abs=1e-6)
    assert slow_loss([arrays(Z), arrays(Z2)]) == pytest.approx(0.626359, abs=1e-6)


def test_streams_that_agree_on_one_class_for_certain_have_no_loss():
    certain = 100 * torch.eye(3)
    assert float(mec.consensus_entropy([certain, certain])) == pytest.approx(0, abs=1e-6)
    assert float(mec.consensus_entropy([certain, certain.roll(1, 1)])) > slow_entropy(np.zeros(3))


def test_three_streams_and_two_labels_of_the_target_alone():
    of, at = output(("rgb", "flow", "audio"), heads=(3, 4)), step()
    term = mec.build(Sizes({}, {}, (3, 4), 5, 0.0, videos={"rgb": 8, "flow": 8, "audio": 8}), mec.Options(0.5))(of, at)
    of_labels = [[arrays(x)[SOURCE:, columns] for x in of.logits.values()] for columns in (slice(0, 3), slice(3, 7))]
    expected = np.mean([slow_loss(streams) for streams in of_labels])
    assert float(term.loss.detach()) == pytest.approx(0.5 * expected, rel=1e-5)
    agree = [len({x[i].argmax() for x in streams}) == 1 for streams in of_labels for i in range(len(streams[0]))]
    assert float(term.metrics["streams_agree"]) == pytest.approx(100 * np.mean(agree))
    gradient = torch.autograd.grad(term.loss, of.logits["audio"])[0]
    assert not gradient[:SOURCE].any() and gradient[SOURCE:].any(1).all()


def test_one_stream_is_no_consensus(small_file):
    with pytest.raises(UsageError, match="a consensus of modalities; it needs two of them and a head for each"):
        trainer_of(small_file, "mec", head="concat")


@pytest.mark.parametrize("head", ["average", "sum", "blend"])
def test_trains_and_goes_on(small_file, tmp_path, head):
    history = trained_and_resumed(small_file, "mec", tmp_path, head=head)
    assert all(0 <= epoch["streams_agree"] <= 100 for epoch in history)

"""The five patients of lesson 10 show what the lesson says of them, and always the same."""

import pytest
import torch

from sora_edu.course.lesson_10 import bugs

FLOOR = bugs.perfect_loss()


@pytest.fixture(scope="module")
def patients() -> dict[str, bugs.Patient]:
    by_letter = bugs.all_patients()
    return {bugs.PATIENTS[letter]: patient for letter, patient in by_letter.items()}


def last(patient: bugs.Patient) -> float:
    return sum(patient.losses[-100:]) / 100


def test_the_healthy_one_comes_down_to_the_perfect_loss_and_has_the_best_samples(patients):
    assert FLOOR < last(patients["healthy"]) < 1.1 * FLOOR
    assert min(patients, key=lambda name: patients[name].distance) == "healthy"
    assert patients["healthy"].distance < 0.05


def test_a_swapped_target_has_a_healthy_loss_and_the_worst_samples(patients):
    assert last(patients["swapped target"]) == pytest.approx(last(patients["healthy"]), rel=0.1)
    assert patients["swapped target"].distance > 20 * patients["healthy"].distance


def test_without_latent_scale_the_loss_is_the_lowest_and_below_the_perfect_one(patients):
    assert min(patients, key=lambda name: last(patients[name])) in ("no latent scale", "not shuffled")
    assert last(patients["no latent scale"]) < 0.8 * FLOOR
    assert patients["no latent scale"].distance > 3 * patients["healthy"].distance


def test_a_rate_too_high_keeps_the_loss_far_above(patients):
    assert last(patients["rate too high"]) > 1.2 * FLOOR


def test_sorted_data_give_the_loss_teeth_one_a_stretch(patients):
    def teeth(patient):
        tail = torch.tensor(patient.losses[-8 * bugs.STRETCH :]).unflatten(0, (8, bugs.STRETCH))
        return float((tail[:, :3].mean(1) - tail[:, -10:].mean(1)).mean())

    assert teeth(patients["not shuffled"]) > 5 * abs(teeth(patients["healthy"]))
    assert patients["not shuffled"].distance > 3 * patients["healthy"].distance


def test_a_patient_is_the_same_every_time():
    one, two = (bugs.train_patient("healthy", steps=20) for _ in range(2))
    assert one.losses == two.losses and torch.equal(one.samples, two.samples)

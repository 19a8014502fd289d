import torch

from sora_edu.seeds import Stream, coin, mixed_seed, step_generator


def test_every_step_stream_and_seed_has_its_own_randomness():
    seen = {
        float(torch.rand(1, generator=step_generator(*key))) for key in [(0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 1, 0)]
    }
    assert len(seen) == 4
    assert torch.rand(1, generator=step_generator(0, 1, 5)) == torch.rand(1, generator=step_generator(0, 1, 5))


def test_a_coin_is_the_generators_next_number_or_that_of_a_gpu_generators_twin():
    class OnGPU(torch.Generator):
        device = torch.device("cuda")

    a, b = (torch.Generator().manual_seed(5) for _ in range(2))
    torch.rand(3, generator=a), torch.rand(3, generator=b)
    assert coin(a) == float(torch.rand(1, generator=b))
    assert coin(OnGPU().manual_seed(5)) == float(torch.rand(1, generator=torch.Generator().manual_seed(5)))


def test_the_numbers_behind_recorded_results_stay():
    assert {stream.name: stream.value for stream in Stream} == {
        "VAE": 1,
        "CLIPS": 2,
        "CAPTIONS": 3,
        "DIT": 4,
        "HELD_OUT": 5,
        "WALKS": 6,
        "STUDENT": 7,
    }
    assert mixed_seed(0, Stream.DIT, 5) == mixed_seed(0, 4, 5) == 1462329772

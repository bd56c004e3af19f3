"""The catalogue of GPUs."""

from job.plan.gpu_catalogue import closest_gpu, read_catalogue

CARDS = read_catalogue()


def test_a_machine_borrows_rates_from_its_like_and_a_price_only_from_its_own_kind():
    assert closest_gpu("Tesla V100-SXM2-16GB", 15.77, (7, 0)).price_usd_per_hour == CARDS["V100-16GB"].price_usd_per_hour
    other = closest_gpu("NVIDIA GeForce RTX 3090", 23.7, (8, 6))
    assert (other.dense_tflops, other.price_usd_per_hour) == (CARDS["A10G"].dense_tflops, None)

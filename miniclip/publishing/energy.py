"""Estimates the energy of a training. Nothing is measured, and the formula is stated with the figure."""

from dataclasses import dataclass

# Thermal design power of GPUs in watts, by a part of the name that PyTorch shows (manufacturers' data sheets).
BOARD_WATTS = {"H200": 700, "H100": 700, "A100": 400, "L40": 300, "A10": 150, "L4": 72, "T4": 70, "V100": 300}
BOARD_WATTS |= {"5090": 575, "4090": 450, "3090": 350}
UNKNOWN_BOARD_WATTS = 300
CPU_THREAD_WATTS = 10  # for a server processor: about 250 W for 25 busy cores, including memory
GRAMS_PER_KWH = 480  # world average for electricity in 2023 (Ember, Global Electricity Review 2024)


@dataclass(frozen=True)
class Energy:
    """
    Args:
        watt_hours: energy of the training steps.
        grams: CO2 equivalents.
        formula: how both were computed, in words.
        hardware: the hardware that trained.
    """

    watt_hours: float
    grams: float
    formula: str
    hardware: str

    def to_metadata(self) -> dict:
        """The field `co2_eq_emissions` of a model card."""
        return {
            "emissions": self.grams,
            "source": f"estimate, not measured: {self.formula}",
            "training_type": "fine-tuning",
            "hardware_used": self.hardware,
        }


def estimate_energy(trainings: list[dict]) -> Energy | None:
    """
    Estimate the energy of all stages.

    Args:
        trainings: `training_results.json` of each stage.

    Returns:
        The estimate, or `None` if there are no stages.
    """
    if not trainings:
        return None
    provenance, processes = trainings[-1]["provenance"], trainings[-1]["num_processes"]
    device, threads = provenance["device"], provenance["num_threads"]
    if device == "cpu":
        watts = processes * threads * CPU_THREAD_WATTS
        per = f"{processes * threads} CPU threads at {CPU_THREAD_WATTS} W"
    else:
        board = next((w for name, w in BOARD_WATTS.items() if name in device), UNKNOWN_BOARD_WATTS)
        watts = processes * board
        per = f"{processes} x {device} at {board} W"
    hours = sum(training["training_minutes"] for training in trainings) / 60
    formula = f"{hours:.2f} hours x {per} = {watts} W, at {GRAMS_PER_KWH} g a kWh (world average of 2023)"
    watt_hours = watts * hours
    return Energy(round(watt_hours, 1), round(watt_hours / 1000 * GRAMS_PER_KWH, 1), formula, device)

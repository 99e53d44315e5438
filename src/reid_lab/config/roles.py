"""What the classes of conf/ declare: runs are compared without importing them.

`tests/config/test_relevance.py` compares the table with the declarations, see `relevance`.
"""

from __future__ import annotations

from collections.abc import Mapping

from reid_lab.types import Role

# `_target_` of a callback -> its role
CALLBACKS: Mapping[str, Role] = {
    "reid_lab.callbacks.AnytimeCurve": "measurement",
    "reid_lab.callbacks.AttentionMaps": "measurement",
    "reid_lab.callbacks.BestCheckpoint": "training",
    "reid_lab.callbacks.Checkpoints": "running",
    "reid_lab.callbacks.CostAccount": "measurement",
    "reid_lab.callbacks.CudaGraph": "running",
    "reid_lab.callbacks.Deadline": "running",
    "reid_lab.callbacks.EarlyExitThresholds": "measurement",
    "reid_lab.callbacks.FeatureDimensions": "measurement",
    "reid_lab.callbacks.FusedOptimizer": "running",
    "reid_lab.callbacks.ImageConditions": "measurement",
    "reid_lab.callbacks.Preflight": "running",
    "reid_lab.callbacks.ProgressiveSearch": "training",
    "reid_lab.callbacks.RankedLists": "measurement",
    "reid_lab.callbacks.RankingEvaluation": "ranking",
    "reid_lab.callbacks.ScheduleFromData": "training",
    "reid_lab.callbacks.StepProgress": "running",
    "reid_lab.callbacks.StopEarly": "training",
    "reid_lab.callbacks.StreamCurve": "ranking",
    "reid_lab.callbacks.Throughput": "running",
    "reid_lab.callbacks.Verification": "measurement",
}
# `_target_` of callbacks that select weights by validation
SELECTING = frozenset({"reid_lab.callbacks.BestCheckpoint", "reid_lab.callbacks.StopEarly"})
# `_target_` -> parameter -> its role, for parameters that declare one
PARAMETERS: Mapping[str, Mapping[str, Role]] = {
    "reid_lab.callbacks.AnytimeCurve": {},
    "reid_lab.callbacks.AttentionMaps": {},
    "reid_lab.callbacks.BestCheckpoint": {"dirpath": "running"},
    "reid_lab.callbacks.Checkpoints": {},
    "reid_lab.callbacks.CostAccount": {},
    "reid_lab.callbacks.CudaGraph": {},
    "reid_lab.callbacks.Deadline": {},
    "reid_lab.callbacks.EarlyExitThresholds": {},
    "reid_lab.callbacks.FeatureDimensions": {},
    "reid_lab.callbacks.FusedOptimizer": {},
    "reid_lab.callbacks.ImageConditions": {},
    "reid_lab.callbacks.Preflight": {},
    "reid_lab.callbacks.ProgressiveSearch": {},
    "reid_lab.callbacks.RankedLists": {},
    "reid_lab.callbacks.RankingEvaluation": {"memory": "running"},
    "reid_lab.callbacks.ScheduleFromData": {},
    "reid_lab.callbacks.StepProgress": {},
    "reid_lab.callbacks.StopEarly": {},
    "reid_lab.callbacks.StreamCurve": {},
    "reid_lab.callbacks.Throughput": {},
    "reid_lab.callbacks.Verification": {},
    "reid_lab.callbacks.loggers.CsvLogger": {},
    "reid_lab.dataset.ReidDataModule": {
        "root": "running",
        "reader": "training",
        "transforms": "training",
        "p": "training",
        "k": "training",
        "batch_size": "training",
        "eval_batch_size": "running",
        "val_identities": "training",
        "validate": "validation",
        "all_against_all": "ranking",
        "cache": "running",
        "cache_dir": "running",
        "exchange": "running",
        "workers": "running",
        "seed": "training",
        "recipe": "training",
    },
    "reid_lab.dataset.Transforms": {"test_crop": "ranking", "test_views": "ranking"},
    "reid_lab.dataset.read_atrw": {},
    "reid_lab.dataset.read_csv": {},
    "reid_lab.dataset.read_cuhk03": {"cache_dir": "running"},
    "reid_lab.dataset.read_cuhk03_np": {},
    "reid_lab.dataset.read_dukemtmc": {},
    "reid_lab.dataset.read_folders": {},
    "reid_lab.dataset.read_grid": {},
    "reid_lab.dataset.read_joint": {},
    "reid_lab.dataset.read_layout": {},
    "reid_lab.dataset.read_market1501": {"distractors": "ranking", "multi_query": "ranking"},
    "reid_lab.dataset.read_mars": {"queries_in_gallery": "ranking", "junk_in_gallery": "ranking"},
    "reid_lab.dataset.read_msmt17": {},
    "reid_lab.dataset.read_veri776": {},
    "reid_lab.dataset.read_viper": {},
    "reid_lab.dataset.synthetic.Recipe": {"distractors": "ranking"},
}
# `_target_` -> old name of a parameter -> its name, as the class has in `renamed`
RENAMED: Mapping[str, Mapping[str, str]] = {
    "reid_lab.callbacks.ProgressiveSearch": {"weight": "triplet_weight"},
    "reid_lab.dataset.Transforms": {"view": "test_crop", "views": "test_views"},
    "reid_lab.model.Distilled": {"weight": "student_weight", "scale": "scale_by_t2"},
    "reid_lab.model.PLA": {"weight": "triplet_weight"},
}

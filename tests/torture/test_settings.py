"""Senseless settings: refused before training starts, or trained with to a sane end."""

from __future__ import annotations

import pytest

from tests.torture.bench import Bench, Case, sane_run, training

pytestmark = pytest.mark.system

# a line is a command: overrides of a short training
REFUSED = """
# optimisation
model.lr=0
model.lr=-1
model.lr=nan
model.lr=inf
model.lr=1e300
model.lr=fast
model.lr=null
model.lr=[1e-3]
model.lr=true
model.iterations=0
model.iterations=-3
model.iterations=2.5
model.iterations=nan
model.iterations=null
model.decay_from=-0.1
model.decay_from=1.5
model.decay_from=nan
loss.margin=nan
loss.margin=inf
loss.margin=wide
model.dim=0
model.dim=-8
model.hidden=0
model.hidden=1.5
backbone.width=0
backbone.width=-4
backbone.width=four
# images
dataset.transforms.height=0
dataset.transforms.height=1
dataset.transforms.width=1
dataset.transforms.height=-64
dataset.transforms.height=100000
dataset.transforms.width=100000
dataset.transforms.height=64.5
dataset.transforms.height=null
dataset.transforms.height=tall
dataset.transforms.flip=2
dataset.transforms.flip=-1
dataset.transforms.flip=nan
dataset.transforms.erase=1.5
dataset.transforms.erase=inf
dataset.transforms.enlarge=0
dataset.transforms.enlarge=nan
dataset.transforms.enlarge=1e9
dataset.transforms.test_views=0
dataset.transforms.test_views=3
dataset.transforms.patch=-0.5
dataset.transforms.brightness=inf
dataset.transforms.brightness=nan
dataset.transforms.brightness=-1
dataset.transforms.contrast=inf
dataset.transforms.saturation=-inf
dataset.transforms.hue=0.7
dataset.transforms.hue=nan
dataset.transforms=null
# batches
dataset.p=0
dataset.p=1
dataset.p=9
dataset.p=1000000
dataset.p=2.5
dataset.k=0
dataset.k=1
dataset.k=100000000
dataset.batch_size=0
dataset.batch_size=-1
dataset.batch_size=1e30
dataset.eval_batch_size=0
dataset.eval_batch_size=-5
dataset.eval_batch_size=many
dataset.val_identities=-1
dataset.val_identities=8
dataset.val_identities=100
dataset.workers=-1
dataset.workers=1000
dataset.workers=1e6
dataset.workers=0.5
dataset.cache=ram
dataset.cache_dir=/proc/nowhere dataset.cache=disk
dataset.seed=-1
seed=-1
seed=1.5
seed=99999999999999999999
seed=null
# the data set
dataset=null
dataset.root=/nowhere
dataset.root=null
dataset.root=
dataset.root=/etc/passwd
dataset.reader=null
dataset.reader._target_=os.system
dataset.reader._target_=reid_lab.nowhere
dataset=market1501 dataset.root=@images
dataset=csv dataset.root=@images
dataset=cuhk03 dataset.root=@images
dataset=msmt17 dataset.root=@images
dataset=synthetic dataset.recipe.cameras=0
dataset=synthetic dataset.recipe.height=-1
dataset=synthetic dataset.recipe.lookalikes=2
dataset=synthetic dataset.recipe.train_identities=0
dataset=synthetic dataset.recipe.test_identities=0
dataset=synthetic dataset.recipe.images_per_camera=0
# groups that are null or another
model=null
loss=null
backbone=null
trainer=null
model=bogus
backbone=bogus
trainer=toaster
loss=bogus
backbone.heads=3
+model.heads=3
~model
model._target_=sympy.sympify
model._target_=null
+model._partial_=true
backbone=resnet50 backbone.weights=/nowhere.pth
backbone=resnet50 backbone.weights=bogus
model=distilled
model=distilled model.teacher=/nowhere.ckpt
model=distilled model.teacher=@images
model=jlml model.parts=0
model=jlml model.parts=1000
model=han model.size=huge
model=pla model.k=0
model=pla model.p=-1
model=pla model.triplet_weight=nan
model=classifier model.momentum=2
model=classifier model.weight_decay=-1
model=classifier model.milestones=[2.5]
model=classifier model.milestones=[nan]
# the trainer
trainer.max_steps=-5
trainer.max_steps=many
trainer.val_check_interval=0
trainer.val_check_interval=-1
trainer.val_check_interval=nan
trainer.log_every_n_steps=-1
trainer.limit_val_batches=-1
trainer.devices=0
trainer.devices=-3
trainer.devices=bogus
trainer.accelerator=toaster
trainer.precision=7
+trainer.gradient_clip_val=nan
+trainer.gradient_clip_val=-1
+trainer.accumulate_grad_batches=0
+trainer.strategy=bogus
+trainer.bogus=1
trainer._target_=os.system
trainer.callbacks=[1]
# what is measured
callbacks.ranking.memory=1
callbacks.ranking.memory=0
callbacks.ranking.memory=nan
callbacks.ranking.memory=-inf
callbacks.ranking.metric=hamming
callbacks.ranking.query=many
callbacks.ranking.pooling=median
callbacks.ranking.pca=0
callbacks.ranking.pca=100000
callbacks.ranking.rerank=bogus
callbacks.ranking.rerank=[k_reciprocal,bogus]
callbacks.ranking.rerankers.k_reciprocal.k1=0
callbacks.ranking.rerank=k_reciprocal callbacks.ranking.rerankers.k_reciprocal.weight=2
callbacks.ranking.rerank=query_expansion callbacks.ranking.rerankers.query_expansion.alpha=nan
callbacks.ranking.references.hsv_histogram.bins=[0,4,4]
callbacks.ranking.references.hsv_histogram.bins=[4,4]
callbacks.ranking.references.hsv_histogram.stripes=0
callbacks.ranking.references.hsv_histogram.bins=[1000000,1000000,1000000]
callbacks.anytime.points=0
callbacks.anytime.points=1e30
callbacks.anytime.budgets=[-1]
callbacks.anytime.budgets=[nan]
callbacks.stream.points=0
callbacks.stream.policies=[bogus]
callbacks.stream.policies=[]
callbacks.stream.exits=[bogus]
callbacks.stream.thresholds=[bogus]
callbacks.stream.orders=[bogus]
callbacks.stream.gallery=half
callbacks.exit_thresholds.identities=-1
callbacks.verification.false_accept_rates=[0]
callbacks.verification.false_accept_rates=[2]
callbacks.verification.false_accept_rates=[nan]
callbacks.dimensions.dims=[0]
callbacks.dimensions.dims=[99999]
callbacks.cost.batch=0
callbacks.cost.repeats=0
callbacks.cost.seconds=-1
callbacks.cost.seconds=nan
callbacks.ranked_lists.each=-1
callbacks.ranked_lists.top=0
callbacks.attention.images=-1
callbacks.throughput.every=0
callbacks.checkpoint.every_n_train_steps=-1
callbacks.checkpoint.every_n_train_steps=0.5
callbacks.checkpoint.dirpath=/proc/nowhere
callbacks.checkpoint.save_top_k=-7
callbacks.mine._target_=os.system
+callbacks.mine._target_=os.system
callbacks.ranking._target_=os.getcwd
# the run
task=train
task=test
task=null
task=test ckpt_path=/nowhere.ckpt
task=test ckpt_path=@images
task=test ckpt_path=/etc/passwd
task=test ckpt_path=last
ckpt_path=
ckpt_path=a/epoch=1.ckpt
ckpt_path=[1]
threads=0
threads=-1
threads=100000
threads=many
allocator=malloc
matmul_precision=exact
compile=maybe
name=
name=null
name=../../x
name=/x
name=a/../../../x
name=..
run_dir=/proc/nowhere
compare=[/nowhere]
compare=/nowhere
compare=[@images]
logger=bogus
logger.csv.save_dir=/proc/nowhere
+bogus=1
bogus=1
dataset.bogus=1
"""
# typing errors, in place of overrides
MISTYPED = """
--model.lr=1
--model.lr 1
-model.lr=1
model.lr
model.lr 1e-3
model.lr=
model.lr: 1
model.lr==1
=1
dataset.root=a=b
+experiment=bogus
experiment=bogus
+experiment=demo,pla_synthetic
+experiment
--config-name=bogus
--config-path=/nowhere
--bogus
${args_no_hyphens}
model.lr=${oc.env:NOWHERE}
model.lr=${nowhere}
model.lr=???
model.lr={a:1
model.lr=[1,2
+sweep=bogus
-m model.lr=bogus,fast
"""
# may be refused or work, but not in between
EITHER = """
logger=null
callbacks=null
callbacks.checkpoint=null
callbacks.anytime=null
callbacks.ranking.references=null
callbacks.ranking.rerankers=null
callbacks.checkpoint.save_last=false
callbacks.checkpoint.save_top_k=2
model.lr=1e-300
model.lr=1e10
model.lr=1e38
loss.margin=-1
loss.margin=1e30
loss=generalised
dataset.transforms.height=8
dataset.transforms.height=65 dataset.transforms.width=33
dataset.transforms.height=300 dataset.transforms.width=10
dataset.transforms.brightness=1e9
dataset.transforms.hue=0.5 dataset.transforms.contrast=1
dataset.transforms.enlarge=1
dataset.transforms.enlarge=8
dataset.transforms.test_views=10
dataset.k=50
dataset.p=8
dataset.batch_size=1
dataset.batch_size=40
dataset.val_identities=3
dataset.val_identities=6
dataset.eval_batch_size=1
dataset.eval_batch_size=1000000
dataset.workers=3
dataset.cache=disk
dataset.cache=memory dataset.cache_dir=null
dataset.cache=disk dataset.cache_dir=null
seed=4294967295
seed=4294967296
threads=2
matmul_precision=highest
allocator=keep
channels_last=false
trainer.max_steps=1
trainer.max_steps=-1 +trainer.max_epochs=1
trainer.max_steps=0
trainer.val_check_interval=1
trainer.val_check_interval=1000
trainer.val_check_interval=0.5
trainer.check_val_every_n_epoch=1
trainer.limit_val_batches=0
trainer.limit_val_batches=1
trainer.log_every_n_steps=0
trainer.precision=16-mixed
trainer.precision=bf16-mixed
trainer.precision=64-true
trainer.num_sanity_val_steps=2
+trainer.gradient_clip_val=0.1
+trainer.gradient_clip_val=inf
+trainer.accumulate_grad_batches=3
+trainer.fast_dev_run=true
+trainer.overfit_batches=1
+trainer.max_epochs=0
+trainer.max_time=00:00:00:01
+trainer.profiler=simple
+trainer.limit_test_batches=1
+trainer.limit_train_batches=0
+trainer.detect_anomaly=true
+trainer.deterministic=true
+trainer.reload_dataloaders_every_n_epochs=1
trainer.use_distributed_sampler=true
trainer.enable_model_summary=true
callbacks.ranking.metric=cosine
callbacks.ranking.metric=l1
callbacks.ranking.query=multi
callbacks.ranking.pca=2 callbacks.ranking.whiten=true
callbacks.ranking.memory=1e5
callbacks.ranking.memory=inf
callbacks.ranking.rerank=[k_reciprocal,query_expansion]
callbacks.stream.points=1
callbacks.exit_thresholds.identities=1
callbacks.dimensions.dims=[1,2]
callbacks.cost.seconds=0 callbacks.cost.repeats=1
callbacks.anytime.budgets=[1]
callbacks.ranked_lists.top=100000
callbacks.attention.images=1
name=people
name='a\\ b'
name=ein/ordner
name='con:1'
name=🚶
run_dir=elsewhere
hydra.run.dir=elsewhere
compare=[@run]
compare=[@run,@run]
ckpt_path=@checkpoint
task=test ckpt_path=@checkpoint
task=test ckpt_path=@checkpoint model.dim=16
task=test ckpt_path=@checkpoint dataset.transforms.height=128
task=test ckpt_path=@checkpoint dataset.val_identities=3
ckpt_path=@checkpoint model.iterations=1
model.identities=3 model=classifier
model=lomo
model=distilled model.teacher=@checkpoint
model=se_small
backbone.width=1
model.dim=1 model.hidden=1
"""


def lines(block: str) -> list[str]:
    return [line for line in block.splitlines() if line and not line.startswith("# ")]


CASES = [
    *(Case(line, training(line), expected="refused") for line in lines(REFUSED)),
    *(
        Case(line, (*training(""), *line.split(" ")), expected="refused")
        for line in lines(MISTYPED)
    ),
    *(Case(line, training(line), check=sane_run) for line in lines(EITHER)),
]


@pytest.mark.torture("settings", share=30)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_settings(bench: Bench, case: Case, tmp_path_factory: pytest.TempPathFactory) -> None:
    bench.check(case, tmp_path_factory.mktemp("s"))  # short: workers' sockets are below it

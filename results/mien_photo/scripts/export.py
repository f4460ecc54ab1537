"""python export.py EMA OUT: int8 ONNX, temperature by PublicTest and corrupted PublicTest under FER2013's prior."""
import sys, json, dataclasses, numpy as np, torch, onnx
sys.path.insert(0, '.'); sys.path.insert(0, 'out/photo'); torch.set_num_threads(1)
import deploy, panel, aug, split
import mien.export.onnx as E
from mien.emotions import FER2013
from mien.modelinfo import ModelInfo
from mien.train.checkpoint import TorchClassifier
from mien.data.dataset import FaceDataset
from mien.models import count_parameters, count_multiply_adds
from mien.classify import Classifier
ema, out = sys.argv[1:3]; method = sys.argv[3] if len(sys.argv) > 3 else 'minmax'
E._HEAD = E._HEAD + ('Mul', 'Sub', 'Sqrt', 'Reciprocal', 'Div', 'Pow')   # the standardisation stays float32
model, d = deploy.load(ema); s = d['settings']
f, m, c = (np.load('out/photo/%s.npz' % k) for k in ('fer', 'mux', 'ck'))
LIC = ('Research use: trained on FER2013 (released for research by its Kaggle challenge), FER+ votes (MIT), CK+ (research only) and muxspace facial expressions (Apache-2.0); the code is Apache-2.0.')
info = ModelInfo(name='mien_photo', labels=FER2013, mean=deploy.MEAN, std=deploy.STD, architecture='mien_base', recipe='mien_photo', seed=s['seed'],
    training_data='fer2013 Training with FER+ votes, muxspace (2 of 5 users), ckplus48 (2 of 3 subjects)', protocol='photo', licence=LIC, parameters=count_parameters(model), multiply_adds=count_multiply_adds(model, (1, 48, 48)), created_with='mien 0.1.0')
print(info.parameters, info.multiply_adds)
tr = f['usage'] == 'Training'; pu = f['usage'] == 'PublicTest'; seen = {x.tobytes() for x in f['x'][tr]}
dup = np.array([x.tobytes() in seen for x in f['x'][pu]]); vx, vy = f['x'][pu], f['y'][pu].astype(np.int64)
torch.manual_seed(0); g = np.random.default_rng(0)
pad = lambda x: np.pad(x, ((0, 0), (12, 12), (12, 12)), mode='edge')
mi = np.isin(m['user'], split.MUX_TRAIN) & m['ok']
pool = np.concatenate([pad(f['x'][tr][g.choice(tr.sum(), 700, False)]), m['x'][mi][g.choice(mi.sum(), 250, False)], pad(c['x'][~split.ck_held(c['subject'])][:150])])
noisy = 'clean' not in sys.argv; half = aug.augment(torch.from_numpy(pool), .6); cal = np.concatenate([panel.cut(pool[::2]), (half[1::2, 0] * 255).round().to(torch.uint8).numpy()]) if noisy else panel.cut(pool); cal = cal[g.permutation(len(cal))][:768]
mk = lambda x, y: FaceDataset(images=x, labels=y, classes=FER2013, ids=tuple(map(str, range(len(x)))), splits=tuple(['x'] * len(x)), name='x', sha256='')
class D:  # the two attributes that the export reads
    def __init__(s, x, y): s.images, s.labels = np.ascontiguousarray(x), y
    def __len__(s): return len(s.images)
r = E.export_onnx(TorchClassifier(model, info), out, D(cal, np.zeros(len(cal), np.int64)), D(vx, vy), int8=True, val_name='PublicTest', calibration=len(cal), method=method)
print('float', r.float_accuracy, 'int8', r.accuracy, 'parity', r.parity, 'bytes', r.size)
# temperature: p(y | x, FER2013) = softmax(z / T + log prior)
cl = Classifier(out, threads=1); clean = vx[~dup]; ly = vy[~dup]; Z, Y = [cl.logits(clean)], [ly]
k = np.arange(0, len(clean), 4)
for n in ('gamma2', 'dark12', 'blur4', 'jpeg20', 'noise20', 'px24', 'turn15', 'half_low'): Z.append(cl.logits(panel.SPOIL[n](clean[k], np.random.default_rng(3)))); Y.append(ly[k])
Z, Y = np.concatenate(Z), np.concatenate(Y); LP = np.log(panel.PRIOR)
nll = lambda T: -np.log(np.maximum(deploy.soft(Z / T + LP)[np.arange(len(Y)), Y], 1e-12)).mean()
Ts = np.exp(np.linspace(np.log(.5), np.log(2.5), 81)); T = round(float(Ts[np.argmin([nll(t) for t in Ts])]), 4); print('temperature', T)
pr = onnx.load(out); meta = json.loads({p.key: p.value for p in pr.metadata_props}['mien']); meta.update(temperature=T, prior={e.value: 1 / 7 for e in FER2013}, scores={})
del pr.metadata_props[:]; onnx.function.set_model_props(pr, {'mien': json.dumps(meta, sort_keys=True)}); open(out, 'wb').write(pr.SerializeToString()); print(Classifier(out).info)

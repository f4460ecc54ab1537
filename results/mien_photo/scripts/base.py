import sys, json, numpy as np; sys.path.insert(0,'out/photo'); import panel
from panel import *
from mien.train.checkpoint import load_checkpoint
from mien.classify import Classifier
import torch; torch.set_num_threads(1)
def stdz(f, sd=.21, m=.5077):
    def g(x):
        y = x.astype(np.float32) / 255; y = y - y.mean((1, 2), keepdims=True); y = y / np.sqrt((y * y).mean((1, 2), keepdims=True) + 2.6e-5)
        return f(q(255 * (m + sd * y)))
    return g
b = load_checkpoint('./results/mien_base_distilled/seed1/best.ckpt'); b.model.to(memory_format=torch.channels_last)
def ask(x):
    with torch.autocast('cpu', torch.bfloat16): return b.predict_proba(x)
d = Classifier("./mien/zoo/mien_distilled.onnx", threads=1); ship = lambda x: d.predict_proba(x)
out = {}
def go(n, f, **k):
    out[n] = r = measure(f, **k); print(line(n, r), flush=True); json.dump(out, open('out/photo/base_%s.json' % PART, 'w'), indent=1)
PART = sys.argv[1]
bal = lambda f: (lambda x: balanced(f(x)))
if PART == 'dev':
    go('distilled', ship); go('distilled prior', bal(ship))
    go('base prior', bal(ask)); go('base prior standardised', bal(stdz(ask)))
    for s, h in ((1, 0), (1, .05), (.9, 0), (.9, .05), (.8, 0), (.8, .05), (1.1, 0)): go(f'base prior crop {s} {h}', bal(ask), scale=s, shift=h, spoil=False)
    go('base', ask, spoil=False); go('base prior flip', bal(flipped(ask)), spoil=False); go('base prior half (tau .5)', lambda x: balanced(ask(x), PRIOR ** .5), spoil=False)
else:
    go('distilled', ship, part='test'); go('distilled prior', bal(ship), part='test'); go('base', ask, part='test'); go('base prior', bal(ask), part='test'); go('base prior flip', bal(flipped(ask)), part='test', spoil=False)
L = np.load(D + 'london_crops.npy'); PA = np.load(D + 'pasted.npz'); dv = S['public']['dev']; i = (dv if PART == 'dev' else ~dv) & PA['ok']; t = S['public']['y'][i]
for n, f in (('base', ask), ('base prior', bal(ask)), ('distilled prior', bal(ship))):
    p = f(PA['x'][i][:, 0]).argmax(1); print('pasted', n, round(float((p == t).mean()), 4), round(recall(t, p), 4))

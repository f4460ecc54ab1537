"""python final.py MODEL.onnx PART(dev|test) [prior]: every figure of the panel for one model."""
import sys, json; sys.path.insert(0, 'out/photo'); import numpy as np, panel
from panel import *
from mien.classify import Classifier
model, part = sys.argv[1:3]; c = Classifier(model, threads=1); ask = lambda x: c.predict_proba(np.ascontiguousarray(x))
if 'prior' in sys.argv: a0 = ask; ask = lambda x: balanced(a0(x))
fl = flipped(ask); R = {'model': model, 'part': part}
K = ['1 0', '.9 0', '1.1 0', '1.2 0', '1 .05', '1.1 .05', '.9 .05']; L = np.load(D + 'london_crops.npy'); PA = np.load(D + 'pasted.npz')
def show(n, r): R[n] = r; print(n, json.dumps({k: (round(v, 4) if isinstance(v, float) else v) for k, v in r.items()}), flush=True)
r = measure(ask, part=part); print(line(model.split('/')[-1] + ' ' + part, r), flush=True); show('panel', r)
def half(d): return d['dev'] if part == 'dev' else ~d['dev']
lo, pu = S['london'], S['public']; il, ip = half(lo), half(pu) & PA['ok']
mux = np.load(D + 'mux.npz'); i = ~np.isin(mux['user'], split.MUX_TRAIN) & (mux['y'] < 7) & mux['ok']; users = mux['user'][i]
def shot(f, k):
    P = f(L[il][:, k]); p = P.argmax(1); y = lo['y'][il]; Q = f(PA['x'][ip][:, k]); t = pu['y'][ip]; g, e = lo['gender'][il], lo['eth'][il]
    return {'smile': float((p[y == 3] == 3).mean()), 'neutral': float((p[y == 6] == 6).mean()), 'smile_by': {str(v): [round(float((p[(y == 3) & (a == v)] == 3).mean()), 3), int(((y == 3) & (a == v)).sum())] for a in (g, e) for v in np.unique(a)}, 'pasted': float((Q.argmax(1) == t).mean()), 'pasted_rec': recall(t, Q.argmax(1)), 'pasted_n': int(ip.sum())}
for k, n in enumerate(K) if part == 'dev' else [(0, '1 0')]: show('crop ' + n, shot(ask, k))
show('flip crop 1 0', shot(fl, 0)); r = measure(fl, part=part, spoil=False); print(line('flip', r)); show('panel flip', r)
d = S['mux']; h = half(d); P = ask(cut(d['x'][h])); p = P.argmax(1)
show('mux by user', {str(u): [round(float((p[users[h] == u] == d['y'][h][users[h] == u]).mean()), 3), round(recall(d['y'][h][users[h] == u], p[users[h] == u]), 3), int((users[h] == u).sum())] for u in np.unique(users[h])})
d = S['ck']; h = half(d); P = ask(cut(d['x'][h])); p = P.argmax(1); show('ck confusion', {'m': [[int(((d['y'][h] == a) & (p == b)).sum()) for b in range(7)] for a in range(6)], 'n': int(h.sum())})
name = sys.argv[3] if len(sys.argv) > 3 else model.split('/')[-1].split('.')[0]
json.dump(R, open(D + f'final/panel_{model.split("/")[-1].split(".")[0]}{"_prior" if "prior" in sys.argv else ""}_{part}.json', 'w'), indent=1)

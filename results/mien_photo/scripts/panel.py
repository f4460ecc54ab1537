"""Photo panel: any callable uint8 (N, 48, 48) -> probabilities (N, 7) in FER2013's order."""
import sys, json, numpy as np, cv2
sys.path.insert(0, '.'); sys.path.insert(0, 'out/photo')
import split
D = 'out/photo/'
def cut(canvas, scale=1., shift=0.):
    """The network's 48x48 crop out of 72x72 canvases (FER2013's frame: the middle 48)."""
    if scale == 1 and shift == 0: return np.ascontiguousarray(canvas[:, 12:60, 12:60])
    side = 48 * scale; s = 48 / side; m = np.array([[s, 0, (.5 - (36 - side / 2)) * s - .5], [0, s, (.5 - (36 + 48 * shift - side / 2)) * s - .5]])
    return np.stack([cv2.warpAffine(c, m, (48, 48), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for c in canvas])
def per(f): return lambda x, g: np.stack([f(a, g) for a in x])
q = lambda a: np.clip(np.round(a), 0, 255).astype(np.uint8)
def motion(a, L): k = np.zeros((9, 9), np.float32); k[4, 4 - L // 2:5 + L // 2] = 1; return cv2.filter2D(a, -1, k / k.sum(), borderType=cv2.BORDER_REPLICATE)
def down(s): return per(lambda a, g: cv2.resize(cv2.resize(a, (s, s), interpolation=cv2.INTER_AREA), (48, 48), interpolation=cv2.INTER_LINEAR))
def turn(d): return per(lambda a, g: cv2.warpAffine(a, cv2.getRotationMatrix2D((23.5, 23.5), d if g.random() < .5 else -d, 1), (48, 48), borderMode=cv2.BORDER_REPLICATE))
def half(w):
    def f(a, g):
        b = a.copy(); v = int(g.integers(30, 220)); s = {'low': np.s_[27:], 'left': np.s_[:, :24]}[w]; b[s] = v; return b
    return per(f)
SPOIL = {'gamma2': per(lambda a, g: q(255 * (a / 255.) ** 2)), 'gamma4': per(lambda a, g: q(255 * (a / 255.) ** 4)), 'dark12': per(lambda a, g: q(a * .12)), 'dark6': per(lambda a, g: q(a * .06 + g.normal(0, 1, a.shape))),
    'blur4': per(lambda a, g: cv2.GaussianBlur(a, (0, 0), 48 * .04, borderType=cv2.BORDER_REPLICATE)), 'motion7': per(lambda a, g: motion(a, 7)), 'jpeg20': per(lambda a, g: cv2.imdecode(cv2.imencode('.jpg', a, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], 0)),
    'noise20': per(lambda a, g: q(a + g.normal(0, 20, a.shape))), 'px24': down(24), 'px16': down(16), 'turn15': turn(15), 'half_low': half('low'), 'half_left': half('left')}
def sets():
    l, c, m, f = (np.load(D + k + '.npz') for k in ('london', 'ck', 'mux', 'fer'))
    out = {'london': dict(x=l['x'], y=l['y'], dev=split.dev(l['face'], 'lon'), gender=l['gender'], eth=l['eth'])}
    i = split.ck_held(c['subject']) & (c['y'] < 7); out['ck'] = dict(x=np.pad(c['x'][i], ((0, 0), (12, 12), (12, 12)), mode='edge'), y=c['y'][i], dev=split.dev(c['subject'][i], 'ckd'))
    i = ~np.isin(m['user'], split.MUX_TRAIN) & (m['y'] < 7) & m['ok']; out['mux'] = dict(x=m['x'][i], y=m['y'][i], dev=split.dev(m['name'][i], 'mux'))
    i = f['usage'] == 'PublicTest'; out['public'] = dict(x=np.pad(f['x'][i], ((0, 0), (12, 12), (12, 12)), mode='edge'), y=f['y'][i], dev=np.arange(i.sum()) % 2 == 0)
    return out
S = sets()
def recall(y, p): return float(np.mean([(p[y == k] == k).mean() for k in np.unique(y)]))
def ece(P, y, n=15):
    c, ok = P.max(1), P.argmax(1) == y; b = np.minimum((c * n).astype(int), n - 1); return float(sum(abs(c[b == k].mean() - ok[b == k].mean()) * (b == k).mean() for k in range(n) if (b == k).any()))
def measure(ask, part='dev', spoil=True, scale=1., shift=0., quick=False):
    """Figures on the panel's half. `ask`: uint8 (N, 48, 48) -> (N, 7). quick: a fifth of PublicTest."""
    r, conf, right, bconf, bright = {}, [], [], [], []
    drop = []
    for name, d in S.items():
        i = d['dev'] if part == 'dev' else ~d['dev']
        if part == 'all': i = np.ones(len(d['y']), bool)
        i = np.flatnonzero(i)
        if quick and name == 'public': i = i[::4]
        if quick and name == 'mux': i = i[::2]
        k = (scale, shift) if name in ('london', 'mux') else (1., 0.); x, y = cut(d['x'][i], *k), d['y'][i]; P = ask(x); p = P.argmax(1)
        if name == 'london':
            r['smile'], r['neutral'] = float((p[y == 3] == 3).mean()), float((p[y == 6] == 6).mean())
            g, e = d['gender'][i], d['eth'][i]; r['smile_by'] = {str(v): [round(float((p[(y == 3) & (a == v)] == 3).mean()), 3), int(((y == 3) & (a == v)).sum())] for a in (g, e) for v in np.unique(a)}
        else: r[name + '_acc'], r[name + '_rec'] = float((p == y).mean()), recall(y, p)
        r[name + '_ece'] = ece(P, y)
        if name in ('public', 'ck'): r[name + '_by'] = [round(float((p[y == c] == c).mean()), 3) if (y == c).any() else None for c in range(7)]
        conf.append(P.max(1)); right.append(p == y)
        if spoil:
            j = np.arange(len(x))[:: 3 if name == 'public' else 1]; clean = (p == y)[j].mean()
            for s, fn in SPOIL.items():
                Q = ask(fn(x[j], np.random.default_rng(1))); ok = Q.argmax(1) == y[j]; r.setdefault('spoiled', {}).setdefault(s, {})[name] = round(float(ok.mean() - clean), 3)
                bconf.append(Q.max(1)); bright.append(ok); drop.append(ok.mean() - clean)
    c, ok = np.concatenate(conf), np.concatenate(right); r['wrong60'] = float((c[~ok] >= .6).mean()); r['ece'] = float(np.mean([r[k + '_ece'] for k in S]))
    if spoil:
        c, ok = np.concatenate(bconf), np.concatenate(bright); r['spoiled_mean'] = float(np.mean(drop)); r['spoiled_wrong60'] = float((c[~ok] >= .6).mean()); r['spoiled_ece'] = ece(np.stack([c], 1), np.where(ok, 0, 1))
    r['score'] = float(np.mean([r['smile'], r['neutral'], r['ck_rec'], r['mux_rec'], r['public_rec'], (r['public_acc'])]))
    return r
def line(n, r): return f"{n:34s} score {r['score']:.3f} smile {r['smile']:.3f} neutral {r['neutral']:.3f} ck {r['ck_acc']:.3f}/{r['ck_rec']:.3f} mux {r['mux_acc']:.3f}/{r['mux_rec']:.3f} public {r['public_acc']:.4f}/{r['public_rec']:.3f} ece {r['ece']:.3f} wrong60 {r['wrong60']:.3f}" + (f" spoiled {r['spoiled_mean']:+.3f} w60 {r['spoiled_wrong60']:.3f} ece {r['spoiled_ece']:.3f}" if 'spoiled' in r else '')
PRIOR = np.array([3995, 436, 4097, 7215, 4830, 3171, 4965]) / 28709
def balanced(P, prior=PRIOR): q = P / prior; return q / q.sum(1, keepdims=True)
def flipped(ask): return lambda x: (ask(x) + ask(np.ascontiguousarray(x[:, :, ::-1]))) / 2

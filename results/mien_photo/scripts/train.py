"""mien_photo: mien_base on FER2013 + FER+, muxspace and CK+, teachers, logit adjustment, heavy degradation."""
import sys, os, time, json, math, copy, argparse, csv, numpy as np, torch, torch.nn.functional as F
sys.path.insert(0, '.'); sys.path.insert(0, 'out/photo')
from torch import nn
from mien.models import create_model
from mien.train.optimizers import Muon
from mien.train.checkpoint import read_checkpoint
import aug, split
P = argparse.ArgumentParser()
P.add_argument('--out', default='out/photo/run0'); P.add_argument('--minutes', type=float, default=78); P.add_argument('--until', default='03:32')
P.add_argument('--seed', type=int, default=0); P.add_argument('--lr', type=float, default=.018); P.add_argument('--batch', type=int, default=256)
P.add_argument('--threads', type=int, default=2); P.add_argument('--standardise', type=int, default=1); P.add_argument('--arch', default='mien_base')
P.add_argument('--init', default='./results/mien_base_distilled/seed1/best.ckpt'); P.add_argument('--ema', type=float, default=.998)
P.add_argument('--ck', type=int, default=3); P.add_argument('--mux', type=int, default=1500); P.add_argument('--kd', type=float, default=.4); P.add_argument('--votes', type=float, default=.3)
P.add_argument('--steps', type=int, default=0); P.add_argument('--size0', type=float, default=.45)
A = P.parse_args(); os.makedirs(A.out, exist_ok=True); json.dump(vars(A), open(A.out + '/settings.json', 'w'), indent=1)
torch.set_num_threads(A.threads); import cv2; cv2.setNumThreads(1)
MEAN, STD = .507742, .255008
class Photo(nn.Module):
    """The network, with every face's contrast standardised first (x: standardised by MEAN, STD)."""
    def __init__(s, on):
        super().__init__(); s.net = create_model(A.arch, num_classes=7); s.on = on
    def pre(s, x):
        if not s.on: return x
        with torch.autocast('cpu', enabled=False):
            x = x - x.mean((2, 3), keepdim=True); return x * torch.rsqrt((x * x).mean((2, 3), keepdim=True) + 4e-4)
    def features(s, x): return s.net.forward_features(s.pre(x).contiguous(memory_format=torch.channels_last))
    def forward(s, x): return s.net.forward_head(s.features(x))
def data():
    f, m, c = np.load('out/photo/fer.npz'), np.load('out/photo/mux.npz'), np.load('out/photo/ck.npz')
    tr = f['usage'] == 'Training'; fx, fy, fv = f['x'][tr], f['y'][tr], f['votes'][tr]; keep = fv[:, 9] < 6
    pad = lambda x: np.pad(x, ((0, 0), (12, 12), (12, 12)), mode='edge')
    one = lambda y: np.eye(7, dtype=np.float32)[y]
    mass = fv[:, :7].sum(1, keepdims=True); share = A.votes * (mass > .5 * fv.sum(1, keepdims=True)); ft = (1 - share) * one(fy) + share * fv[:, :7] / np.maximum(mass, 1e-6)
    mi = np.isin(m['user'], split.MUX_TRAIN) & (m['y'] < 7) & m['ok'] & np.load('out/photo/teach_mux_rows.npy'); ci = ~split.ck_held(c['subject']) & (c['y'] < 7)
    tf, tm, tc = (np.load('out/photo/teach_%s.npy' % k)[1] for k in ('fer', 'mux', 'fer'))
    x = np.concatenate([pad(fx[keep]), m['x'][mi], pad(c['x'][ci])]); y = np.concatenate([fy[keep], m['y'][mi], c['y'][ci]])
    t = np.concatenate([ft[keep], .9 * one(m['y'][mi]) + .1 / 7, .95 * one(c['y'][ci]) + .05 / 7]).astype(np.float32)
    soft = np.concatenate([tf[keep], tm[mi], np.full((ci.sum(), 7), 1 / 7, np.float32)]); src = np.repeat([0, 1, 2], [keep.sum(), mi.sum(), ci.sum()])
    votes = np.concatenate([fv[keep] / fv[keep].sum(1, keepdims=True).clip(1), np.zeros((mi.sum() + ci.sum(), 10), np.float32)])
    return x, y, t, soft, src, votes
x, y, t, soft, src, votes = data()
def epoch_rows(g):
    rows = [np.flatnonzero(src == 0), np.repeat(np.flatnonzero((src == 0) & (y == 1)), 2)]
    for k in range(7):
        i = np.flatnonzero((src == 1) & (y == k)); rows.append(g.permutation(i)[:A.mux] if k in (3, 6) else np.repeat(i, 3))
    if A.ck: rows.append(np.repeat(np.flatnonzero(src == 2), A.ck))
    r = np.concatenate(rows) if A.mux else np.concatenate([rows[0], rows[1], *rows[9:]]); return g.permutation(r)
prior = np.zeros((3, 7)); r0 = epoch_rows(np.random.default_rng(0))
for s in range(3):
    q = r0[src[r0] == s]
    if len(q): prior[s] = np.maximum(t[q].mean(0), (.01, .03, .03)[s]); prior[s] /= prior[s].sum()
    else: prior[s] = 1 / 7
fer_prior = np.bincount(y[src == 0], minlength=7) / (src == 0).sum()
print('per epoch', len(r0), 'prior by source', prior.round(3).tolist(), 'teachers', fer_prior.round(3).tolist(), flush=True)
X, T, S, SR, VO = torch.from_numpy(x), torch.from_numpy(t), torch.from_numpy(soft), torch.from_numpy(src), torch.from_numpy(votes)
LP, LF = torch.from_numpy(np.log(prior)).float(), torch.from_numpy(np.log(fer_prior)).float()
KD = torch.tensor([A.kd, A.kd, 0.])
torch.manual_seed(A.seed); model = Photo(A.standardise).to(memory_format=torch.channels_last); auxiliary = nn.Linear(256 if A.arch == 'mien_base' else 192, 10)
if A.init:
    _, st = read_checkpoint(A.init); pre = 'averaged.' if any(k.startswith('averaged.') for k in st) else 'model.'
    model.net.load_state_dict({k[len(pre):]: v.float() if v.is_floating_point() else v for k, v in st.items() if k.startswith(pre)})
ema = copy.deepcopy(model).eval().requires_grad_(False)
ps = [p for p in model.parameters()]; conv = [p for p in ps if p.ndim == 4]; dense = [p for p in ps if p.ndim == 2] + [auxiliary.weight]; vec = [p for p in ps if p.ndim < 2] + [auxiliary.bias]
opt = Muon([{'params': conv, 'muon': True, 'weight_decay': 5e-4, 's': 1}, {'params': dense, 'weight_decay': 5e-4, 's': 5}, {'params': vec, 'weight_decay': 0., 's': 5}], lr=A.lr, momentum=.95, renormalise=True)
step = epoch = 0; elapsed = 0.; last = A.out + '/last.pt'
if os.path.exists(last):
    d = torch.load(last, weights_only=False); model.load_state_dict(d['model']); ema.load_state_dict(d['ema']); auxiliary.load_state_dict(d['aux']); opt.load_state_dict(d['opt']); step, epoch, elapsed = d['step'], d['epoch'], d['elapsed']; torch.set_rng_state(d['rng']); print('resumed', epoch, step, flush=True)
# the rate follows the clock: the machine is shared, and the end is fixed
now = time.time(); hh, mm = map(int, A.until.split(':')); lt = time.localtime(now); end = time.mktime(lt[:3] + (hh, mm, 0) + lt[6:]); total = elapsed + (end - now); base = now - elapsed
P_ = lambda: step / A.steps if A.steps else min(1., (time.time() - base) / total)
try: import panel
except Exception as e: panel = None; print('no panel yet', e)
def save(name, d): torch.save(d, A.out + '/' + name + '.tmp'); os.replace(A.out + '/' + name + '.tmp', A.out + '/' + name)
done = False
while not done:
    g = np.random.default_rng(1000 * A.seed + epoch); rows = torch.from_numpy(epoch_rows(g)); torch.manual_seed(77_777 * (A.seed + 1) + epoch); model.train(); tot = [0., 0., 0., 0]; t0 = time.time(); ta = 0.
    for k in range(0, len(rows) - A.batch + 1, A.batch):
        p = P_()
        if p >= 1: done = True; break
        lr = A.lr * min(1., (step + 1) / 300) * (1 - p)
        for q in opt.param_groups: q['lr'] = lr * q['s']
        i = rows[k:k + A.batch]; t1 = time.time(); xb = aug.augment(X[i], .65 if p < .75 else .5 if p < .92 else .35)
        if p < A.size0: xb = F.interpolate(xb, (40, 40), mode='bilinear', antialias=True)
        xb = (xb - MEAN) / STD; ta += time.time() - t1
        with torch.autocast('cpu', torch.bfloat16): f = model.features(xb); z = model.net.forward_head(f); za = auxiliary(f)
        z, za = z.float(), za.float(); s = SR[i]; w = KD[s]
        ce = -(T[i] * F.log_softmax(z + LP[s], 1)).sum(1)
        kd = 4 * F.kl_div(F.log_softmax((z + LF) / 2, 1), S[i], reduction='none').sum(1)
        v = VO[i]; loss = ((1 - w) * ce + w * kd).mean() - .4 * (v * F.log_softmax(za, 1)).sum() / max(1, int((v.sum(1) > 0).sum()))
        for q in opt.param_groups:
            for pp in q['params']: pp.grad = None
        loss.backward(); opt.step(); step += 1
        with torch.no_grad():
            d = min(A.ema, (1 + step) / (10 + step)) 
            for a, b in zip(ema.state_dict().values(), model.state_dict().values()):
                if a.is_floating_point(): a.lerp_(b, 1 - d)
                else: a.copy_(b)
        tot[0] += float(loss) * len(i); tot[1] += float(ce.detach().mean()) * len(i); tot[2] += float((z.argmax(1) == T[i].argmax(1)).sum()); tot[3] += len(i)
        if step % 25 == 0: print(f'step {step} p {p:.4f} lr {lr:.4f} loss {tot[0]/tot[3]:.4f} {(time.time()-t0)/(k//A.batch+1):.2f} s/step aug {ta/(k//A.batch+1):.3f}', flush=True)
    epoch += 1; p = P_(); n = max(tot[3], 1)
    row = {'epoch': epoch, 'step': step, 'progress': round(p, 4), 'train_loss': round(tot[0] / n, 4), 'train_ce': round(tot[1] / n, 4), 'train_accuracy': round(tot[2] / n, 4), 'seconds': round(time.time() - t0, 1)}
    save('last.pt', {'model': model.state_dict(), 'ema': ema.state_dict(), 'aux': auxiliary.state_dict(), 'opt': opt.state_dict(), 'step': step, 'epoch': epoch, 'elapsed': time.time() - base, 'rng': torch.get_rng_state(), 'settings': vars(A)})
    save('ema.pt', {'ema': ema.state_dict(), 'settings': vars(A), 'epoch': epoch, 'step': step, 'progress': p})
    print(row, flush=True)
    new = not os.path.exists(A.out + '/curves.csv')
    with open(A.out + '/curves.csv', 'a') as fh:
        wr = csv.DictWriter(fh, list(row)); new and wr.writeheader(); wr.writerow(row)

"""Augmentation of mien_photo: uint8 canvases (N, 72, 72) -> float (N, 1, 48, 48) in 0..1, on 8-bit levels."""
import math, cv2, numpy as np, torch, torch.nn.functional as F
U = lambda n, a, b: torch.rand(n) * (b - a) + a
LU = lambda n, a, b: torch.exp(U(n, math.log(a), math.log(b)))
V = lambda t: t.view(-1, 1, 1, 1)
def pick(n, p): return torch.rand(n) < p
def geometry(x, hard, side=48):
    n = len(x); r = side / x.shape[-1]
    k = torch.where(hard, 1.0, 0.4)
    ang = U(n, -1, 1) * math.radians(20) * k; size = 1 + U(n, -.22, .22) * k
    wide = size * (1 + U(n, -.15, .15) * k); dx, dy = U(n, -.2, .2) * k * r, U(n, -.2, .2) * k * r
    shear = U(n, -.2, .2) * k * pick(n, .3); mir = torch.where(pick(n, .5), -1.0, 1.0)
    c, s = torch.cos(ang), torch.sin(ang)
    a, b, d, e = mir * c / wide, -s / size, mir * s / wide, c / size
    th = torch.stack([(a + shear * d) * r, (b + shear * e) * r, dx, d * r, e * r, dy], 1).view(n, 2, 3)
    g = F.affine_grid(th, [n, 1, side, side], align_corners=False)
    # a horizontal keystone, as a turned head or a near camera has
    t = (U(n, -.25, .25) * k * pick(n, .3)).view(n, 1, 1)
    g[..., 1] = g[..., 1] * (1 + t * g[..., 0]); 
    return F.grid_sample(x, g, mode='bicubic', padding_mode='border', align_corners=False).clamp(0, 1)
def light(x, hard):
    n = len(x); m = x.mean((1, 2, 3), keepdim=True)
    x = ((x - m) * V(1 + U(n, -.4, .3)) + m) * V(1 + U(n, -.25, .25))
    x = x.clamp(0, 1)
    g = torch.where(pick(n, .35) & hard, LU(n, .4, 2.5), torch.ones(n)); g = torch.where(pick(n, .06) & hard, LU(n, 2.5, 4.5), g)
    x = x.clamp(min=1e-4) ** V(g)
    # light from one side
    k = pick(n, .2) & hard; a = U(n, 0, 2 * math.pi); y, z = torch.meshgrid(torch.linspace(-1, 1, x.shape[-1]), torch.linspace(-1, 1, x.shape[-1]), indexing='ij')
    ramp = 1 + V(U(n, .2, .7) * k) * (V(torch.cos(a)) * z + V(torch.sin(a)) * y)
    x = (x * ramp).clamp(0, 1)
    dark = torch.where(pick(n, .12) & hard, LU(n, .05, .8), torch.ones(n))
    return x * V(dark), dark
def cover(x, hard):
    n, s = len(x), x.shape[-1]; rows = torch.arange(s).view(1, 1, s, 1); cols = torch.arange(s).view(1, 1, 1, s)
    other = x[torch.randperm(n)]
    col = V(torch.rand(n)); noisy = torch.where(V(pick(n, .3)), torch.rand_like(x), col.expand_as(x)); fill = torch.where(V(pick(n, .3)), other.flip(2), noisy)
    mask = torch.zeros(n, 1, s, s, dtype=torch.bool)
    low = pick(n, .07) & hard; edge = U(n, .48, .68) * s + 0
    curve = ((cols - s / 2) / (s / 2)).abs() ** 2 * V(U(n, -4, 6))
    mask |= V(low) & (rows > V(edge) + curve)
    side = pick(n, .05) & hard; at = U(n, .4, .6) * s; left = V(pick(n, .5))
    mask |= V(side) & torch.where(left, cols < V(at), cols > V(at))
    top = pick(n, .03) & hard; mask |= V(top) & (rows < V(U(n, .2, .42) * s))
    box = pick(n, .18); h, w = U(n, .1, .45) * s, U(n, .1, .45) * s; y, z = U(n, -.1, .9) * s, U(n, -.1, .9) * s
    mask |= V(box) & (rows >= V(y)) & (rows < V(y + h)) & (cols >= V(z)) & (cols < V(z + w))
    el = pick(n, .08) & hard; cy, cx, ry, rx, a = U(n, .4, 1.1) * s, U(n, 0, 1) * s, U(n, .1, .2) * s, U(n, .2, .5) * s, U(n, 0, math.pi)
    u = (rows - V(cy)) * V(torch.cos(a)) + (cols - V(cx)) * V(torch.sin(a)); v = -(rows - V(cy)) * V(torch.sin(a)) + (cols - V(cx)) * V(torch.cos(a))
    mask |= V(el) & ((u / V(ry)) ** 2 + (v / V(rx)) ** 2 < 1)
    return torch.where(mask, fill, x)
def blur(x, hard):
    i = torch.nonzero(pick(len(x), .28) & hard)[:, 0]
    if not len(i): return x
    n = len(i); r = torch.arange(-5, 6).float(); gy, gx = torch.meshgrid(r, r, indexing='ij')
    gauss = torch.exp(-(gx ** 2 + gy ** 2)[None] / (2 * LU(n, .4, 2.4).view(n, 1, 1) ** 2))
    disc = torch.sigmoid((LU(n, .8, 3.5).view(n, 1, 1) - (gx ** 2 + gy ** 2)[None].sqrt()) * 4)
    a, L = U(n, 0, math.pi).view(n, 1, 1), U(n, 1, 4.5).view(n, 1, 1)
    along, off = gx * torch.cos(a) + gy * torch.sin(a), -gx * torch.sin(a) + gy * torch.cos(a)
    motion = torch.exp(-off ** 2 / .5) * torch.sigmoid((L - along.abs()) * 4)
    w = torch.randint(0, 3, (n, 1, 1)); k = torch.where(w == 0, gauss, torch.where(w == 1, disc, motion)); k = k / k.sum((1, 2), keepdim=True)
    p = F.pad(x[i], (5, 5, 5, 5), mode='replicate').transpose(0, 1)
    x[i] = F.conv2d(p, k[:, None], groups=n).transpose(0, 1)
    return x
def small(x, hard):
    s = x.shape[-1]; order = torch.nonzero(pick(len(x), .25) & hard)[:, 0]
    for part in order.chunk(5):
        if len(part):
            t = int(torch.randint(11, 37, ()))
            y = F.interpolate(x[part], (t, t), mode='bilinear', antialias=bool(torch.rand(()) < .8), align_corners=False)
            x[part] = F.interpolate(y, (s, s), mode='bilinear' if torch.rand(()) < .6 else 'bicubic', align_corners=False).clamp(0, 1)
    return x
def jpeg(x, hard):
    for i in torch.nonzero(pick(len(x), .15) & hard)[:, 0].tolist():
        a = (x[i, 0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        f = int(torch.randint(1, 3, ())); a2 = cv2.resize(a, None, fx=f, fy=f) if f > 1 else a
        ok, b = cv2.imencode('.jpg', a2, [cv2.IMWRITE_JPEG_QUALITY, int(torch.randint(8, 60, ()))]); b = cv2.imdecode(b, 0)
        x[i, 0] = torch.from_numpy(cv2.resize(b, (48, 48), interpolation=cv2.INTER_AREA) if f > 1 else b).float() / 255
    return x
def augment(u8, p_hard=.75):
    """uint8 (N, 72, 72) -> float (N, 1, 48, 48)"""
    x = u8[:, None].float() / 255; n = len(x); hard = pick(n, p_hard)
    x = geometry(x, hard)
    x = cover(x, hard)
    x, dark = light(x, hard)
    x = blur(x, hard); x = small(x, hard)
    sd = torch.where(pick(n, .25) & hard, LU(n, .008, .08), torch.zeros(n)); sd = torch.where(dark < 1, sd * dark + U(n, .0, .012), sd)
    x = (x + torch.randn_like(x) * V(sd)).clamp(0, 1)
    x = jpeg(x, hard)
    return (x * 255).round() / 255
def plain(u8): return u8[:, None, 12:60, 12:60].float() / 255

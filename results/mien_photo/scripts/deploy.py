"""The trained network as the callable that the panel asks, and as a TorchClassifier for export."""
import sys, numpy as np, torch
sys.path.insert(0, '.'); sys.path.insert(0, 'out/photo')
from torch import nn
from mien.models import create_model
from mien.models.blocks import fuse
MEAN, STD = .507742, .255008
class Standardised(nn.Module):
    """Every face's brightness and contrast to mean 0, deviation 1 (eps: .0051 of the 0..1 scale), then the net."""
    def __init__(s, net, on=True): super().__init__(); s.net, s.on = net, on
    def forward(s, x):
        if s.on:
            x = x - x.mean((2, 3), keepdim=True); x = x * torch.rsqrt((x * x).mean((2, 3), keepdim=True).sub(-4e-4))
        return s.net(x)
def load(path):
    d = torch.load(path, weights_only=False); a = d['settings']; net = create_model(a['arch'], num_classes=7)
    net.load_state_dict({k[4:]: v for k, v in d['ema'].items() if k.startswith('net.')}); net.eval()
    return Standardised(fuse(net), bool(a['standardise'])).eval(), d
def logits(model, x, n=256):
    out = []
    with torch.inference_mode():
        for k in range(0, len(x), n):
            b = torch.from_numpy(np.ascontiguousarray(x[k:k + n]))[:, None].float() / 255; b = ((b - MEAN) / STD).contiguous(memory_format=torch.channels_last)
            with torch.autocast('cpu', torch.bfloat16): out.append(model(b).float())
    return torch.cat(out).numpy()
def soft(z, T=1.): z = z / T; z = z - z.max(1, keepdims=True); e = np.exp(z); return e / e.sum(1, keepdims=True)
def asker(path, T=1.):
    m, d = load(path); m.to(memory_format=torch.channels_last); return (lambda x: soft(logits(m, x), T)), d

import sys, torch, numpy as np; sys.path.insert(0,'out/photo'); import deploy, panel
from mien.models import create_model; from mien.models.blocks import fuse; from mien.train.checkpoint import read_checkpoint
torch.set_num_threads(1); d=torch.load(sys.argv[1],weights_only=False); a={k[4:]:v for k,v in d['ema'].items() if k.startswith('net.')}
_,st=read_checkpoint('./results/mien_base_distilled/seed1/best.ckpt'); b={k.split('.',1)[1]:v.float() for k,v in st.items() if k.startswith(('model.','averaged.'))}
w={k:(a[k]*b[k]).sum()/a[k].norm()/b[k].norm() for k in a if a[k].ndim==4}; print('cosines',{k:round(float(v),3) for k,v in w.items()})
for t in map(float,sys.argv[2:]):
    n=create_model('mien_base',num_classes=7); n.load_state_dict({k:(t*a[k]+(1-t)*b[k] if a[k].is_floating_point() else a[k]) for k in a}); m=deploy.Standardised(fuse(n.eval())).eval().to(memory_format=torch.channels_last)
    print(panel.line(f'wise {t}',panel.measure(lambda x: deploy.soft(deploy.logits(m,x)),spoil=False)),flush=True)

"""python mk.py EMA ALPHA OUT.pt OUT.safetensors: ALPHA parts of the trained weights, the rest of the initial ones'."""
import sys, torch; sys.path.insert(0,'out/photo'); sys.path.insert(0,'.')
from mien.train.checkpoint import read_checkpoint; from safetensors.torch import save_file
d=torch.load(sys.argv[1],weights_only=False); t=float(sys.argv[2]); a={k[4:]:v for k,v in d['ema'].items() if k.startswith('net.')}
if t<1:
    _,st=read_checkpoint('./results/mien_base_distilled/seed1/best.ckpt'); b={k.split('.',1)[1]:v.float() for k,v in st.items() if k.startswith('model.')}
    a={k:(t*a[k]+(1-t)*b[k] if a[k].is_floating_point() else a[k]) for k in a}
h={k:(v.half() if v.is_floating_point() else v).contiguous() for k,v in a.items()}
d['ema']={'net.'+k:v.float() if v.is_floating_point() else v for k,v in h.items()}; torch.save(d,sys.argv[3]); save_file(h,sys.argv[4],metadata={'architecture':'mien_base','standardise':'each face: (x - mean) * rsqrt(var + 4e-4) after (p/255 - .507742)/.255008','steps':str(d['step']),'epochs':str(d['epoch']),'seed':'0','share_of_trained':str(t)})

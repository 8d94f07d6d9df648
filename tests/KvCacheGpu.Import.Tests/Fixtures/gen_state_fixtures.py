#!/usr/bin/python3
"""Generates the fixtures of state dicts and of the rarer forms of torch.save, and adds them to expected.json, which gen_fixtures.py begins.
Run with Debian's /usr/bin/python3 and python3-torch 1.13. What newer versions of torch write is made by this version's pickler under
the newer functions' names: their arguments are those of torch/_utils.py and torch/_tensor.py."""
import collections, hashlib, json, os, pickle, struct, sys, types, zipfile
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
expected = json.load(open(f'{HERE}/expected.json'))
torch.manual_seed(11)


def walk(value, path=''):
    if isinstance(value, torch.Tensor):
        plain = value.detach().contiguous()
        raw = plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain
        return {path: {'lib': 'torch', 'dtype': str(value.dtype), 'shape': list(value.shape), 'sha256': hashlib.sha256(raw.numpy().tobytes()).hexdigest()}}
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in walk(item, f'{path}/{key!r}').items()}
    if isinstance(value, (list, tuple)):
        return {k: v for i, item in enumerate(value) for k, v in walk(item, f'{path}/{i}').items()}
    return {} if isinstance(value, (torch.dtype, torch.device, torch.layout)) else {path: {'value': repr(value)}}


def save(name, value, **how):
    torch.save(value, f'{HERE}/{name}', **how)
    expected[name] = walk(value)


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = torch.nn.Linear(3, 4, bias=False)
        self.norm = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2).to(torch.bfloat16))
        self.tied = torch.nn.Linear(3, 4, bias=False)
        self.tied.weight = self.attend.weight


block = Block()
state = block.state_dict()
assert state._metadata
for protocol in (2, 3, 4, 5):
    save(f'zip_state_p{protocol}.pt', state, pickle_protocol=protocol)
save('legacy_state.pt', state, _use_new_zipfile_serialization=False)
for protocol in (2, 4):
    name = f'plain_state_p{protocol}.pkl'
    open(f'{HERE}/{name}', 'wb').write(pickle.dumps(state, protocol))
    expected[name] = walk(state)

# A checkpoint: state dicts within a dict, views of one storage, what is no tensor.
optimizer = torch.optim.Adam(block.parameters())
loss = (block.attend.weight ** 2).sum()
loss.backward()
optimizer.step()
whole = torch.arange(48, dtype=torch.float16).reshape(2, 3, 8)
checkpoint = {'model': state, 'optimizer': optimizer.state_dict(), 'epoch': 3, 'views': [whole, whole.transpose(0, 1), whole[1, :, ::2], whole[..., 3]],
              'param': block.attend.weight, 'grad': torch.ones(2, requires_grad=True), 'size': torch.Size([7, 2]), 'bf16': torch.tensor([1.5, -2.25]).to(torch.bfloat16),
              'types': [torch.bfloat16, torch.complex64, torch.qint8], 'device': torch.device('cuda', 1), 'layout': torch.strided}
save('zip_checkpoint.pt', checkpoint)
save('legacy_checkpoint.pt', checkpoint, _use_new_zipfile_serialization=False)


class Call:
    """Pickles as a call of a function of torch with arguments."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def function(module, name):
    """The function of that name; a stand-in where this version of torch does not have it yet. The pickler writes its name alone."""
    made = getattr(sys.modules[module], name, None)
    if made is None:
        made = types.FunctionType((lambda *_: None).__code__, {}, name)
        made.__module__, made.__qualname__ = module, name
        setattr(sys.modules[module], name, made)
    return made


class Dtype:
    """Pickles as torch.<name>, of which this version has no such type."""

    def __init__(self, name):
        self.name = name
        setattr(torch, name, self)

    def __reduce__(self):
        return self.name


Dtype.__module__ = 'torch'


def newer(name, **how):
    import torch._tensor
    hooks = collections.OrderedDict()
    base = torch.arange(12, dtype=torch.float32)
    typed = base.storage()
    raw = torch.tensor(list(struct.pack('<6H', 1, 2, 40000, 65535, 0, 7)), dtype=torch.uint8)
    # Only torch 2 writes UntypedStorage; 1.13 writes ByteStorage for the same bytes, which v3 reads alike.
    value = {'first': Call(function('torch._utils', '_rebuild_tensor'), typed, 2, (2, 2), (3, 1)),
             'typed': Call(function('torch._utils', '_rebuild_tensor_v3'), raw.storage(), 1, (5,), (1,), False, hooks, Dtype('uint16')),
             'half': Call(function('torch._utils', '_rebuild_tensor_v3'), raw.storage(), 0, (2, 3), (3, 1), False, hooks, torch.float16, {}),
             'tagged': Call(function('torch._tensor', '_rebuild_from_type_v2'), function('torch._utils', '_rebuild_tensor_v2'), torch.Tensor,
                            (typed, 0, (3, 4), (4, 1), False, hooks), {'origin': 'a cache', 'step': 4}),
             'state': Call(function('torch._utils', '_rebuild_parameter_with_state'), base[:3].clone(), True, hooks, {'layer': 2})}
    torch.save(value, f'{HERE}/{name}', **how)
    shorts = [1, 2, 40000, 65535, 0, 7]
    def given(dtype, shape, raw):
        return {'lib': 'torch', 'dtype': f'torch.{dtype}', 'shape': shape, 'sha256': hashlib.sha256(raw).hexdigest()}
    expected[name] = {"/'first'": given('float32', [2, 2], struct.pack('<4f', 2, 3, 5, 6)),
                      "/'typed'": given('uint16', [5], struct.pack('<5H', *shorts[1:])),
                      "/'half'": given('float16', [2, 3], struct.pack('<6H', *shorts)),
                      "/'tagged'": given('float32', [3, 4], struct.pack('<12f', *range(12))),
                      "/'state'": given('float32', [3], struct.pack('<3f', 0, 1, 2))}


newer('zip_newer.pt')
newer('zip_newer_p4.pt', pickle_protocol=4)
newer('legacy_newer.pt', _use_new_zipfile_serialization=False)


def without_sums(source, target, keep=()):
    """The file as torch.save leaves it with compute_crc32 = False: every checksum is 0, but for the members of keep."""
    data = bytearray(open(f'{HERE}/{source}', 'rb').read())
    with zipfile.ZipFile(f'{HERE}/{source}') as archive:
        members = archive.infolist()
        at = archive.start_dir
    for member in members:
        name, extra, comment = struct.unpack_from('<3H', data, at + 28)
        if member.filename.split('/', 1)[1] not in keep:
            local = 30 + sum(struct.unpack_from('<2H', data, member.header_offset + 26))
            for place in [member.header_offset + 14, at + 16] + ([member.header_offset + local + member.file_size + 4] if member.flag_bits & 8 else []):
                data[place:place + 4] = bytes(4)
        at += 46 + name + extra + comment
    open(f'{HERE}/{target}', 'wb').write(data)


without_sums('zip_kv.pt', 'zip_kv_nocrc.pt')
expected['zip_kv_nocrc.pt'] = expected['zip_kv.pt']
without_sums('zip_kv.pt', 'bad_pt_crc_of_some.pt', keep=('data/3', 'version'))

# Objects of programs, and a tensor where it would be lost.
classes = {'bad_dynamic_cache.pkl': 'transformers.cache_utils DynamicCache', 'bad_module.pkl': 'torch.nn.modules.linear Linear'}
for name, path in classes.items():
    module, kind = path.split()
    open(f'{HERE}/{name}', 'wb').write(b'\x80\x02c' + module.encode() + b'\n' + kind.encode() + b'\n)\x81}X\x01\x00\x00\x00kK\x01sb.')
hidden = collections.OrderedDict(a=torch.ones(1))
hidden.aside = torch.ones(2)
torch.save(hidden, f'{HERE}/bad_pt_tensor_in_attribute.pt')

json.dump(expected, open(f'{HERE}/expected.json', 'w'), indent=1, sort_keys=True)
print('ok', torch.__version__)

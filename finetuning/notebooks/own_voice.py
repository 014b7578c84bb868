# ---
# jupyter:
#   accelerator: GPU
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: accelerator,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Teach friend your own voice
#
# RWKV is a recurrent network: all it remembers of a conversation is one small state, and it begins
# with an empty one. **State tuning** learns a state to begin with, and nothing else. The model then
# starts every conversation as if it had just read a long text in your voice. Its weights stay the
# same for everybody, so a voice is a file of its own, more than a hundred times smaller than the model,
# and costs nothing when the model talks: no longer prompt, no more memory, no slower word.
#
# This notebook takes a channel in which you talk, learns how you answer, and ends with that file.
#
# A voice is personal. Ask the people in the channel first; friend replaces their names, but not what
# they say. friend uploads nothing: what you learn from stays in this session.
#
# In Colab choose **Runtime, Change runtime type, GPU** first.

# %% [markdown]
# ## Settings
#
# All of them are here. `REPOSITORY` is where friend's code is published. `MINE` is what to learn
# from, uploaded into this session:
#
# - Discord: a channel exported as JSON by DiscordChatExporter, and `IMITATE`, your name there;
# - Slack: the `.zip` of a workspace export, and `IMITATE`;
# - or conversations that you write yourself, a `.csv` with two columns: what somebody says, and what
#   you would answer. Leave `IMITATE` empty.
#
# The more answers of yours there are, the better; a few hundred are little.

# %%
import importlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

REPOSITORY = "https://github.com/OWNER/friend"  # put the address of your copy here
KEEP_ON_DRIVE = False  # Colab only: keep everything in your Google Drive
WORK = Path("friend-voice")

MINE = "general.json"
IMITATE = "your name"
VOICE = "mine"  # the voice's name
EPOCHS = 4.0  # passes over the conversations
PEAK_RATE = 3e-2
ROW_LENGTH = 512  # tokens that the model reads at a stretch

SMALL = os.environ.get("FRIEND_NOTEBOOK_SMALL") == "1"  # the automatic test, on made-up data
if SMALL:
    IMITATE, EPOCHS, PEAK_RATE, ROW_LENGTH = "Bob", 2.0, 1e-1, 64

# %% [markdown]
# ## Installing friend
#
# friend goes into an environment of its own, with exactly the versions that it is tested with:
# what this machine has installed stays as it is, nothing drifts, and no restart is needed. There
# is no CUDA kernel to compile; the only thing built is friend's own C++ engine for the CPU, which
# takes a minute.


# %%
def run(*words: object) -> None:
    """Run a command, show what it says as it says it, and stop here if it fails."""
    command = [str(word) for word in words]
    print("$", shlex.join(command), flush=True)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
    if process.returncode:
        raise RuntimeError(f"It ended with {process.returncode}; the lines above say why.")


def fetch(url: str, path: Path) -> Path:
    """Download a file, unless it is here already."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        urllib.request.urlretrieve(url, part)
        part.replace(path)
    return path


if KEEP_ON_DRIVE:  # a lost session then loses nothing
    importlib.import_module("google.colab.drive").mount("/content/drive")
    WORK = Path("/content/drive/MyDrive") / WORK
WORK = WORK.resolve()
WORK.mkdir(parents=True, exist_ok=True)

if importlib.util.find_spec("finetuning"):  # friend is installed here
    PYTHON = sys.executable
else:
    checkout, environment = Path("friend").resolve(), Path("friend-env").resolve()
    PYTHON = str(environment / "bin/python")
    if not checkout.exists():
        run("git", "clone", "--depth", "1", REPOSITORY, checkout)
    run(sys.executable, "-m", "pip", "install", "--quiet", "virtualenv")
    run(sys.executable, "-m", "virtualenv", "--quiet", environment)
    run(
        PYTHON, "-m", "pip", "install", "--quiet",
        "--constraint", checkout / "constraints.txt", f"{checkout}[training,hub]",
    )  # fmt: skip
friend = (PYTHON, "-m", "friend")
if shutil.which("nvidia-smi"):
    run("nvidia-smi", "-L")
else:
    print("There is no GPU here: training will take long.")

# %% [markdown]
# ## The base model
#
# RWKV-7 World 0.4B, which knows how to hold a conversation. `friend model pull` fetches it from the
# Hugging Face hub (under 1 GB), compares its checksum, and makes the model file that the voice will
# belong to: a voice learnt with one model is noise to another, so both files carry the fingerprint
# of the weights, and the server refuses a pair that does not match. Fetching takes a while and says
# nothing meanwhile.

# %%
if SMALL:
    from finetuning.notebooks import small

    base, tokenizer = small.rwkv7(WORK / "base")
    model = WORK / "base/small.gguf"
    run(*friend, "model", "convert", base, "-o", model, "--tokenizer", tokenizer)
else:
    tokenizer = fetch(
        "https://raw.githubusercontent.com/BlinkDL/ChatRWKV/main/tokenizer/rwkv_vocab_v20230424.txt",
        WORK / "base/rwkv_vocab_v20230424.txt",
    )
    name = "RWKV-x070-World-0.4B-v2.9-20250107-ctx4096"
    base, model = WORK / f"base/{name}.pth", WORK / f"base/{name}.Q8_0.gguf"
    run(
        *friend, "model", "pull", f"BlinkDL/rwkv-7-world:{name}.pth",
        "--to", base.parent, "--tokenizer", tokenizer,
    )  # fmt: skip

# %% [markdown]
# ## Before
#
# The model with its empty memory, polite and like everybody:


# %%
def chat(model: Path, *lines: str, session: str = "", **settings: object) -> None:
    """Say some lines to a model file, and show the replies: what `friend chat` does in a pipe."""
    environment = {
        "FRIEND_MODEL_FILE": model,
        "FRIEND_STORE_URL": f"sqlite+aiosqlite:///{WORK / 'conversations.db'}",
        "FRIEND_REPLY_SEED": 1,
    } | settings
    said = subprocess.run(
        [*friend, "chat", "--session", session or os.urandom(4).hex()],
        input="".join(f"{line}\n" for line in lines),
        env=os.environ | {name: str(value) for name, value in environment.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    if said.returncode:
        raise RuntimeError(said.stderr)
    for line, reply in zip(lines, said.stdout.splitlines(), strict=True):
        print(f"you:    {line}\nfriend: {reply}\n")


QUESTIONS = ("hi, how are you?", "do you like music?", "what did you do today?")
chat(model, *QUESTIONS)

# %% [markdown]
# ## Training
#
# In an export you become the one who answers, and everybody else the one who asks; an hour of silence
# begins a new conversation. Links, bots and joins are left out, names replaced, and what could not be
# used is counted below. Every conversation is read from the learnt state on, as the server will.
#
# | setting | here | why |
# |---|---|---|
# | `--method state` | the first state | a voice, not knowledge; the weights do not move |
# | `--learn replies` | your words only | what others say is read, and not imitated |
# | `--peak-rate` | 3e-2 | thousands of times that of weights: a state has to go a long way, and can break nothing |
# | `--epochs` | 4 | a channel is little text; friend stops when held-out answers get no better |
#
# **If the session is lost**, run the cells again from the top: the run goes on where its last
# checkpoint was, at most two minutes back, as if nothing had happened. That needs the folder to be
# still there, so set `KEEP_ON_DRIVE` above for a long run. The stop button ends the run after its
# step, with a checkpoint.
#
# **If memory runs out**, friend says which setting to lower. `--micro-batch` is already 1;
# `--checkpointing` computes every layer twice to keep less; a shorter `--row-length` keeps less
# still, at the price of what the model can look back on while it learns.

# %%
export = Path(MINE)
if SMALL:
    export = WORK / "general.json"
    small.discord_export(export)

RUN = WORK / "run"
run(
    *friend, "finetune",
    "--base", base, "--tokenizer", tokenizer, "--method", "state", "--learn", "replies",
    "--data", export, *(("--imitate", IMITATE) if IMITATE else ()),
    "--epochs", EPOCHS, "--peak-rate", PEAK_RATE,
    "--row-length", ROW_LENGTH, "--micro-batch", 1,
    "--out", RUN, "--name", VOICE,
)  # fmt: skip

# %% [markdown]
# ## The curve
#
# Grey is the loss of each step, the smooth line its running mean, the dots the loss on answers of
# yours that were held out: how well the voice is yours, measured. The best point is what is kept.

# %%
from matplotlib import pyplot as plt

plt.figure(figsize=(9, 5.2))
plt.imshow(plt.imread(RUN / "curve.png"))
plt.axis("off")
plt.show()

# %% [markdown]
# ## Your voice
#
# `friend model info` says what is in the file and whether it fits the model in use.

# %%
voice = RUN / f"{VOICE}.safetensors"
os.environ["FRIEND_MODEL_FILE"] = str(model)
run(*friend, "model", "info", voice)

# %% [markdown]
# ## After
#
# The same model file and the same questions; only the beginning is another.

# %%
chat(model, *QUESTIONS, FRIEND_MODEL_STATE=voice)

# %% [markdown]
# Now you, with yourself. An empty line ends the talk.

# %%
while not SMALL and (line := input("you: ")):
    chat(model, line, session="mine", FRIEND_MODEL_STATE=voice)

# %% [markdown]
# ## Taking it home
#
# Two files: the model, which you may have already, and the voice.
#
# ```
# FRIEND_MODEL_FILE=MODEL.gguf FRIEND_MODEL_STATE=mine.safetensors friend chat
# ```
#
# Several voices in one folder are served side by side: with `FRIEND_MODEL_STATE=voices` the server
# offers `friend` and, for each file, `friend:NAME`; `FRIEND_MODEL_NAME=friend:mine` chooses.

# %%
FILES = [voice, model]

if importlib.util.find_spec("google") and importlib.util.find_spec("google.colab"):
    download = importlib.import_module("google.colab.files").download
    for path in FILES:
        download(str(path))
else:
    print(*FILES, sep="\n")

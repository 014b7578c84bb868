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
# # Make RWKV-7 0.4B become friend, with LoRA
#
# RWKV-7 "Goose" World has read 2 trillion tokens in a hundred languages, and it knows the form
# `User: ...`, `Assistant: ...` already. It needs no new manner, only a nudge towards chatting like a
# friend. LoRA is made for nudges: the weights stay as they are, and next to every matrix a product
# of two thin ones is learnt. That is about one weight in a hundred, so the memory for gradients and
# for the optimizer all but vanishes, and little of what the model knows can get lost.
#
# At the end the thin matrices are added into the weights. The result is an ordinary model file that
# is no slower than before and lacks no key.
#
# In Colab choose **Runtime, Change runtime type, GPU** first.

# %% [markdown]
# ## Settings
#
# All of them are here. `REPOSITORY` is where friend's code is published. `MINE` may name files of
# your own: chat lines (`.jsonl`), two columns (`.csv`, `.tsv`), or the export of a Slack or Discord
# channel. While it is empty, the talks are used that were written for friend.

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
WORK = Path("friend-lora")

MINE: list[str] = []
IMITATE = ""  # for an export of a channel: the person to sound like
EPOCHS = 1.0  # passes over the conversations
PEAK_RATE = 1e-4
RANK, ALPHA = 8, 32.0
ROW_LENGTH = 512  # tokens that the model reads at a stretch
TESTED = 200  # talks to measure with

SMALL = os.environ.get("FRIEND_NOTEBOOK_SMALL") == "1"  # the automatic test, on made-up data
if SMALL:
    EPOCHS, PEAK_RATE, ROW_LENGTH, TESTED = 2.0, 3e-2, 64, 30

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
# `friend model pull` fetches the checkpoint from the Hugging Face hub (under 1 GB), compares its
# checksum, and goes on where it stopped if the line breaks. It also makes a model file of it, so
# that we can talk with the model before it has learnt anything. The World vocabulary is published
# apart. Fetching takes a while and says nothing meanwhile.

# %%
if SMALL:
    from finetuning.notebooks import small

    base, tokenizer = small.rwkv7(WORK / "base")
    untaught = WORK / "base/untaught.gguf"
    run(*friend, "model", "convert", base, "-o", untaught, "--tokenizer", tokenizer)
else:
    tokenizer = fetch(
        "https://raw.githubusercontent.com/BlinkDL/ChatRWKV/main/tokenizer/rwkv_vocab_v20230424.txt",
        WORK / "base/rwkv_vocab_v20230424.txt",
    )
    name = "RWKV-x070-World-0.4B-v2.9-20250107-ctx4096"
    base, untaught = WORK / f"base/{name}.pth", WORK / f"base/{name}.Q8_0.gguf"
    run(
        *friend, "model", "pull", f"BlinkDL/rwkv-7-world:{name}.pth",
        "--to", base.parent, "--tokenizer", tokenizer,
    )  # fmt: skip
run(*friend, "model", "info", untaught)

# %% [markdown]
# ## The conversations
#
# Either your own, of which friend holds one in twenty apart to watch the loss on, or friend's talks:
# some thousands of everyday conversations, written to one character, which come with the code and
# are drawn anew each epoch. Names in an export of a channel are replaced; lines that cannot be used
# are counted and named.

# %%
if MINE:
    data = [word for path in MINE for word in ("--data", path)]
    data += ["--imitate", IMITATE] if IMITATE else []
else:
    TALKS = str(small.talks(WORK / "talks") if SMALL else "talks")
    data = ["--data", TALKS]

# %% [markdown]
# ## Before


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


QUESTIONS = ("hi friend", "do you like rap music?", "what did you do today?")
chat(untaught, *QUESTIONS)

# %% [markdown]
# ## Training
#
# | setting | here | why |
# |---|---|---|
# | `--method lora` | thin matrices | little memory, little forgetting |
# | `--lora-rank` | 8 | how thin: a manner of speaking needs few directions; facts would need more |
# | `--lora-alpha` | 32 | the product counts alpha/rank = 4 times; keep the quotient when you change the rank |
# | `--peak-rate` | 1e-4 | ten times that of a full fine-tuning: the thin matrices begin at nothing |
# | `--micro-batch` | 1 | rows computed at a time: memory only, the result is the same |
# | `--row-length` | 512 | longer rows let the model look back further while it learns, and cost memory |
#
# Which matrices get a companion can be chosen: `--lora-targets 'blocks.*.att.*'` leaves the
# feed-forward halves alone, for instance.
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
RUN = WORK / "run"
run(
    *friend, "finetune",
    "--base", base, "--tokenizer", tokenizer, *data,
    "--method", "lora", "--lora-rank", RANK, "--lora-alpha", ALPHA,
    "--epochs", EPOCHS, "--peak-rate", PEAK_RATE,
    "--row-length", ROW_LENGTH, "--micro-batch", 1,
    "--out", RUN, "--name", "friend-0.4b",
)  # fmt: skip

# %% [markdown]
# ## The curve
#
# Grey is the loss of each step, the smooth line its running mean, the dots the loss on conversations
# held out. When the dots stop falling, so does the training: the best point is what gets exported.

# %%
from matplotlib import pyplot as plt

plt.figure(figsize=(9, 5.2))
plt.imshow(plt.imread(RUN / "curve.png"))
plt.axis("off")
plt.show()

# %% [markdown]
# ## Measuring
#
# On talks that no part of this has seen (with files of your own there are none left to measure on:
# the curve's dots have to do): bits per byte, where lower is better, and how often the model picks
# the right reply among twenty, says who it is, and remembers what it was told. Both files are
# measured as they will be served, with weights of 8 bits.

# %%
taught = RUN / "friend-0.4b.Q8_0.gguf"
if not MINE:
    measure = ["--measure", "pick"] if SMALL else []
    for model in (untaught, taught):
        run(*friend, "eval", "--data", TALKS, "--limit", TESTED, "--model", model, *measure)

# %% [markdown]
# ## After

# %%
chat(taught, *QUESTIONS)

# %% [markdown]
# Now you. An empty line ends the talk.

# %%
while not SMALL and (line := input("you: ")):
    chat(taught, line, session="mine")

# %% [markdown]
# ## Taking it home
#
# `friend-0.4b.Q8_0.gguf` is the whole model, LoRA merged, tokenizer inside. friend runs it, and so
# does llama.cpp:
#
# ```
# FRIEND_MODEL_FILE=friend-0.4b.Q8_0.gguf friend chat
# ```

# %%
FILES = [taught, RUN / "curve.csv"]

if importlib.util.find_spec("google") and importlib.util.find_spec("google.colab"):
    download = importlib.import_module("google.colab.files").download
    for path in FILES:
        download(str(path))
else:
    print(*FILES, sep="\n")

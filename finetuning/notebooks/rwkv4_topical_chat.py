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
# # Make RWKV-4 430M (Pile) become friend
#
# The first friend was this model: RWKV-4 with 430 million weights, which had read the Pile (books,
# code, the web) and then some 8,600 conversations in which two people chat about sports, music or
# politics. This notebook makes it again, on a free GPU, and then gives it friend's character: last
# it learns the talks that were written for friend. It ends with one file that `friend chat`, a
# Discord bot or an AWS Lambda function runs on a small CPU.
#
# What happens: fetch the base model, fetch the conversations, train all weights gently, first on
# Topical-Chat and then on friend's talks, look at the curves, measure, talk, take the file home.
#
# In Colab choose **Runtime, Change runtime type, GPU** first. Without a GPU everything works as
# well, only too slowly for a model of this size.

# %% [markdown]
# ## Settings
#
# All of them are here. `REPOSITORY` is where friend's code is published.

# %%
import importlib
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

REPOSITORY = "https://github.com/OWNER/friend"  # put the address of your copy here
KEEP_ON_DRIVE = False  # Colab only: keep everything in your Google Drive
WORK = Path("friend-topical-chat")

EPOCHS = 1.0  # passes over Topical-Chat
TALK_EPOCHS = 3.0  # passes over friend's talks, each drawn anew
PEAK_RATE = 1e-5
ROW_LENGTH = 384  # tokens that the model reads at a stretch
BATCH_SIZE = 8  # such rows a step
TESTED = 40  # conversations to measure with

SMALL = os.environ.get("FRIEND_NOTEBOOK_SMALL") == "1"  # the automatic test, on made-up data
if SMALL:
    EPOCHS, TALK_EPOCHS, PEAK_RATE, ROW_LENGTH, TESTED = 2.0, 2.0, 1e-2, 64, 4

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
# that we can talk with the model before it has learnt anything. The tokenizer of the Pile models is
# published apart. Fetching takes a while and says nothing meanwhile.

# %%
if SMALL:
    from finetuning.notebooks import small

    base, tokenizer = small.rwkv4(WORK / "base")
    untaught = WORK / "base/untaught.gguf"
    run(*friend, "model", "convert", base, "-o", untaught, "--tokenizer", tokenizer)
else:
    tokenizer = fetch(
        "https://raw.githubusercontent.com/BlinkDL/ChatRWKV/main/20B_tokenizer.json",
        WORK / "base/20B_tokenizer.json",
    )
    name = "RWKV-4-Pile-430M-20220808-8066"
    base, untaught = WORK / f"base/{name}.pth", WORK / f"base/{name}.Q8_0.gguf"
    run(
        *friend, "model", "pull", f"BlinkDL/rwkv-4-pile-430m:{name}.pth",
        "--to", base.parent, "--tokenizer", tokenizer,
    )  # fmt: skip
run(*friend, "model", "info", untaught)

# %% [markdown]
# ## The conversations
#
# [Topical-Chat](https://github.com/alexa/Topical-Chat) (Gopalakrishnan et al., 2019) comes with its
# own split: we learn from `train`, watch the loss on `valid_freq`, and touch `test_freq` only to
# measure. friend reads its files as they are.
#
# You can learn from your own conversations instead: put the path of a `.jsonl`, `.csv` or `.tsv`
# file, or of an export of a channel, in place of `train.json`. Lines that cannot be used are counted
# and named.

# %%
DATA = WORK / "topical-chat"
if SMALL:
    small.topical_chat(DATA)
for name in ("train", "valid_freq", "test_freq"):
    fetch(
        f"https://raw.githubusercontent.com/alexa/Topical-Chat/master/conversations/{name}.json",
        DATA / f"{name}.json",
    )

conversations = json.loads((DATA / "train.json").read_text())
print(f"{len(conversations):,} conversations; the first begins:\n")
for message in next(iter(conversations.values()))["content"][:4]:
    print(f"{message['agent']}: {message['message']}")

TALKS = small.talks(WORK / "talks") if SMALL else "talks"  # by name: those that come with friend

# %% [markdown]
# ## Before
#
# The base model has read about conversations and never had one. This is what it says:


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
# ## Training, first on Topical-Chat
#
# Every conversation becomes `User: ...`, a blank line, `Friend: ...`, a blank line, and so on; every
# turn counts, so that the model learns both to answer and what people say next. The conversations
# are packed into rows of `ROW_LENGTH` tokens, one after the other with a mark between them.
#
# | setting | here | why |
# |---|---|---|
# | `--method full` | all weights | the model has to change its whole manner, and fits |
# | `--peak-rate` | 1e-5 | a small fraction of what a model learns with from nothing: more would wash out what it knows |
# | `--batch-size` | 8 | rows a step; fewer is noisy, more learns less from as many tokens |
# | `--micro-batch` | 1 | rows computed at a time: memory only, the result is the same |
# | `--row-length` | 384 | longer rows let the model look back further while it learns, and cost memory |
# | `--epochs` | 1 | with more it begins to learn by heart; friend watches the held-out loss, keeps the best and stops |
# | `--mixture` | `topical-chat=1` | an epoch uses each conversation once; without it, twice |
#
# A cosine leads the rate from its peak to a tenth. On a GPU that has it, matrix products are in
# bf16; what is delicate stays in float32.
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
    "--base", base, "--tokenizer", tokenizer, "--method", "full",
    "--data", DATA / "train.json", "--valid", DATA / "valid_freq.json",
    "--mixture", "topical-chat=1", "--epochs", EPOCHS, "--peak-rate", PEAK_RATE,
    "--row-length", ROW_LENGTH, "--batch-size", BATCH_SIZE, "--micro-batch", 1,
    "--out", RUN, "--name", "chatty-430m",
)  # fmt: skip

# %% [markdown]
# ## Then on friend's talks
#
# Topical-Chat teaches a model to chat; who it is, it learns here. The talks are some thousands of
# everyday conversations, written to one character: a small program in a box, kind, curious, that
# takes up what you said. They have roles, so the model learns to be friend and not the user. A third
# of Topical-Chat stays beside them, lest it forget. What the run before learnt is where this one
# begins.

# %%
FRIEND = WORK / "friend"
run(
    *friend, "finetune",
    "--base", RUN, "--method", "full", "--data", TALKS, "--data", DATA / "train.json",
    "--mixture", "topical-chat=0.3", "--epochs", TALK_EPOCHS, "--peak-rate", PEAK_RATE,
    "--row-length", ROW_LENGTH, "--batch-size", BATCH_SIZE, "--micro-batch", 1,
    "--out", FRIEND, "--name", "friend-430m",
)  # fmt: skip

# %% [markdown]
# ## The curves
#
# The grey line is the loss of each step, the smooth one its running mean, the dots the loss on
# conversations held out. While the dots fall, the model learns what carries over; when they rise, it
# learns by heart. The numbers are in `curve.csv`. First Topical-Chat, then the talks.

# %%
from matplotlib import pyplot as plt

for folder in (RUN, FRIEND):
    plt.figure(figsize=(9, 5.2))
    plt.imshow(plt.imread(folder / "curve.png"))
    plt.axis("off")
    plt.show()

# %% [markdown]
# ## Measuring
#
# Bits per byte: how many bits the model would need to write the words of conversations it has never
# seen, divided by their length in bytes. Lower is better, and models with different tokenizers can
# be compared. Both files are measured as they will be served, with weights of 8 bits.

# %%
test = DATA / "test_freq.jsonl"
with test.open("w") as file:
    for one in json.loads((DATA / "test_freq.json").read_text()).values():
        said = [message["message"] for message in one["content"]]
        print(json.dumps({"source": "topical-chat", "turns": said}), file=file)

taught = FRIEND / "friend-430m.Q8_0.gguf"
for model in (untaught, taught):
    run(*friend, "eval", "--data", test, "--limit", TESTED, "--model", model)
if not SMALL:  # and whether it makes sense: picks the reply, knows who it is, remembers
    run(*friend, "eval", "--data", "talks", "--model", taught)

# %% [markdown]
# ## After
#
# The same questions to the model that has learnt to chat:

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
# `friend-430m.Q8_0.gguf` is the whole model: weights, tokenizer, the form of a conversation. On your
# own machine, with friend installed:
#
# ```
# FRIEND_MODEL_FILE=friend-430m.Q8_0.gguf friend chat
# ```
#
# The folder `friend/model` holds the same as float16 safetensors; a next fine-tuning can start there
# (`--base friend/model`).

# %%
FILES = [taught, FRIEND / "curve.csv"]

if importlib.util.find_spec("google") and importlib.util.find_spec("google.colab"):
    download = importlib.import_module("google.colab.files").download
    for path in FILES:
        download(str(path))
else:
    print(*FILES, sep="\n")

# The source of articles.ipynb and articles.zh-CN.ipynb: run docs/notebooks.py after a change.

# %% [markdown] lang="en"
# # The five articles, line by line
#
# Five articles on the web teach LeNet with PyTorch: its layers, its training on Fashion-MNIST, LeNet-5 of 1998,
# LeNet5s on MNIST, and convolution from first principles. This notebook runs their code, and beside it what does
# the same with `lenet`. On a narrow page the articles' cell comes first and ours below it.
#
# Their code is as they print it, laid out to be readable. Where it cannot run as printed, or where a number is
# wrong, the text says so (*Careful*). It needs `pip install 'lenet[torch]'` and nothing else: the package `d2l`
# that the articles import pins NumPy 1.23.5, which recent Python and PyTorch cannot use, so its few helpers are
# written out here.

# %% [markdown] lang="zh"
# # 逐行对照五篇文章
#
# 网上有五篇文章用 PyTorch 讲解 LeNet：网络各层、在 Fashion-MNIST 上的训练、1998 年的 LeNet-5、在 MNIST 上训练的
# LeNet5s，以及从零实现卷积。本笔记本运行文章里的代码，并在旁边给出用 `lenet` 完成同样工作的代码。页面较窄时，文章的
# 代码在上，我们的在下。
#
# 文章的代码照原样给出，只是重新排了版。凡是照原样无法运行、或者数字有误的地方，正文都会指出（**注意**）。只需要
# `pip install 'lenet[torch]'`：文章导入的 `d2l` 包把 NumPy 固定在 1.23.5，新版 Python 和 PyTorch 无法与之共用，
# 因此这里直接写出所用到的几个辅助函数。

# %% tags=["parameters"]
fashion, mnist = "fashion-mnist", "mnist"  # or the folder of another data set
epochs = 10

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import lenet

_ = torch.manual_seed(0)

# %% [markdown] lang="en"
# ## The network and its shapes
#
# Two convolutions, each with a sigmoid and average pooling, then three fully connected layers: 61,706
# parameters. `lenet.LeNet()` is the same network with named layers; `lenet.trace` gives what every layer returns.

# %% [markdown] lang="zh"
# ## 网络与各层形状
#
# 两个卷积层，各接 sigmoid 和平均汇聚层，然后是三个全连接层：共 61,706 个参数。`lenet.LeNet()` 是同一个网络，
# 每层都有名字；`lenet.trace` 给出每一层的输出。

# %% tags=["left"]
net = nn.Sequential(
    nn.Conv2d(1, 6, kernel_size=5, padding=2),
    nn.Sigmoid(),
    nn.AvgPool2d(kernel_size=2, stride=2),
    nn.Conv2d(6, 16, kernel_size=5),
    nn.Sigmoid(),
    nn.AvgPool2d(kernel_size=2, stride=2),
    nn.Flatten(),
    nn.Linear(16 * 5 * 5, 120),
    nn.Sigmoid(),
    nn.Linear(120, 84),
    nn.Sigmoid(),
    nn.Linear(84, 10),
)
X = torch.rand(size=(1, 1, 28, 28), dtype=torch.float32)
x = X
for layer in net:
    x = layer(x)
    print(f"{layer.__class__.__name__:10}", tuple(x.shape))

# %% tags=["right"]
model = lenet.LeNet()
for name, output in lenet.trace(model, X).items():
    print(f"{name:10}", tuple(output.shape))

# %% [markdown] lang="en"
# `lenet.summary` also counts parameters, connections and multiply-adds, and says how much of the image a unit sees.
#
# *Careful:* the second article applies the convolution formula to S2 and gets 10×10. S2 pools 28×28 by 2×2, so it is
# 14×14; 10×10 is C3. It also dates LeNet-5 to 1994: the paper is of November 1998.

# %% [markdown] lang="zh"
# `lenet.summary` 还会统计参数、连接和乘加次数，并给出每个单元能看到多大的图像区域。
#
# **注意：** 第二篇文章把卷积公式用在 S2 上，得到 10×10。S2 对 28×28 做 2×2 汇聚，应为 14×14；10×10 是 C3 的大小。它还把
# LeNet-5 的年代写成 1994 年：论文发表于 1998 年 11 月。

# %%
lenet.summary("LeNet")

# %% [markdown] lang="en"
# ## The same as a class
#
# The second article writes the network as a class with `conv1` to `fc3`. `lenet.copy_weights(source, target)`
# copies all parameters between any two of these forms, in either direction. The outputs are then the same.

# %% [markdown] lang="zh"
# ## 写成类
#
# 第二篇文章把网络写成一个类，各层叫 `conv1` 到 `fc3`。`lenet.copy_weights(source, target)` 在这几种形式之间任意复制全部
# 参数，方向不限。复制后输出完全相同。


# %% tags=["left"]
class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = torch.sigmoid(self.conv1(x))
        x = F.avg_pool2d(x, kernel_size=2, stride=2)
        x = torch.sigmoid(self.conv2(x))
        x = F.avg_pool2d(x, kernel_size=2, stride=2)
        x = torch.flatten(x, 1)
        x = torch.sigmoid(self.fc1(x))
        x = torch.sigmoid(self.fc2(x))
        return self.fc3(x)


# %% tags=["right"]
for article in (LeNet(), net):
    ours = lenet.LeNet()
    lenet.copy_weights(article, ours)
    there = (article(X) - ours(X)).abs().max().item()
    ours = lenet.LeNet()
    lenet.copy_weights(ours, article)
    back = (article(X) - ours(X)).abs().max().item()
    print(type(article).__name__, "difference", there, back)

# %% [markdown] lang="en"
# ## LeNet-5 of 1998
#
# Three articles describe the original: a 32×32 input, S2 and S4 with a coefficient and a bias for each map, and
# a C3 that reads only some maps of S2. They count by hand; `lenet.LeNet5()` is that network.
#
# *Careful:* the first article calls C5 "F5" and adds an "F7" with softmax. The paper's last layer, fully connected to
# F6, measures the distance to a drawing of each digit; softmax came later. So did ReLU, which the fourth article uses
# under the heading of 1998.

# %% [markdown] lang="zh"
# ## 1998 年的 LeNet-5
#
# 有三篇文章介绍原始网络：输入 32×32，S2 和 S4 的每个特征图各有一个系数和一个偏置，C3 只读取 S2 的一部分特征图。文章是手工
# 计算的；`lenet.LeNet5()` 就是这个网络。
#
# **注意：** 第一篇文章把 C5 叫作“F5”，又加了一个带 softmax 的“F7”。论文的最后一层与 F6 全连接，计算的是到各数字图样的距离；
# softmax 是后来才用的。第四篇文章在 1998 年的标题下使用的 ReLU 也是如此。

# %% tags=["left"]
c1 = (5 * 5 + 1) * 6
c3 = (5 * 5 * 3 + 1) * 6 + (5 * 5 * 4 + 1) * 9 + 5 * 5 * 6 + 1
print("C1", c1, c1 * 28 * 28)
print("C3", c3, c3 * 10 * 10)
print("C5", 120 * (16 * 5 * 5 + 1))

# %% tags=["right"]
for row in lenet.summary("LeNet5"):
    print(f"{row.name:6} {row.parameters:6} {row.connections:7}")

# %% [markdown] lang="en"
# ## Data
#
# The articles call `d2l.load_data_fashion_mnist(256)`, which downloads the data by torchvision and returns two loaders.
# Here the same loaders take their images from `lenet.data.load`, which verifies what it downloads. Training with
# `lenet` needs no loader; PyTorch's `DataLoader` takes `clothes.train` as it is, a sequence of (image, label).

# %% [markdown] lang="zh"
# ## 数据
#
# 文章调用 `d2l.load_data_fashion_mnist(256)`，它用 torchvision 下载数据，返回两个迭代器。这里的迭代器与之相同，图像则来自
# `lenet.data.load`，下载的内容都经过校验。用 `lenet` 训练不需要迭代器；`clothes.train` 是 (图像, 标签) 的序列，可以直接交给 PyTorch 的
# `DataLoader`。


# %% tags=["left"]
def load_data(name, batch_size):
    def loader(split, shuffle):
        pixels = torch.tensor(split.images)[:, None] / 255
        pairs = TensorDataset(pixels, torch.tensor(split.labels))
        return DataLoader(pairs, batch_size, shuffle=shuffle)

    data = lenet.data.load(name)
    return loader(data.train, True), loader(data.test, False)


batch_size = 256
train_iter, test_iter = load_data(fashion, batch_size)
X, y = next(iter(train_iter))
print(tuple(X.shape), tuple(y.shape))

# %% tags=["right"]
clothes = lenet.data.load(fashion)
X = lenet.LeNet().prepare(clothes.train.images[:256])
print(tuple(X.shape))
clothes

# %% [markdown] lang="en"
# ## Accuracy
#
# Evaluation mode, no gradients, the device of the model. `lenet.evaluate` takes a network, a run folder, a weights file
# or the name of a pretrained network, and reports far more than the accuracy.

# %% [markdown] lang="zh"
# ## 精度
#
# 评估模式、不计算梯度、使用模型所在的设备。`lenet.evaluate` 接受网络、运行文件夹、权重文件或预训练网络的名字，报告的内容也
# 远不止精度。


# %% tags=["left"]
def evaluate_accuracy_gpu(net, data_iter, device=None):
    if isinstance(net, nn.Module):
        net.eval()
        if not device:
            device = next(iter(net.parameters())).device
    right, count = 0, 0
    with torch.no_grad():
        for X, y in data_iter:
            X, y = X.to(device), y.to(device)
            right += (net(X).argmax(axis=1) == y).sum().item()
            count += y.numel()
    return right / count


print(evaluate_accuracy_gpu(net, test_iter))

# %% tags=["right"]
model = lenet.LeNet()
lenet.copy_weights(net, model)
print(lenet.evaluate(model, clothes.test).accuracy)

# %% [markdown] lang="en"
# ## Training: `train_ch6`
#
# Xavier-uniform weights, cross-entropy, plain stochastic gradient descent with learning rate 0.9, batches of 256,
# 10 epochs. The recipe `d2l` is exactly that. `d2l`'s plot grows while it trains; so does ours in a notebook. (What is
# shown here ran on one core of a busy machine; RESULTS.md compares speeds with care.)
#
# *Careful:* the third article prints this function without `l.backward()`. Then no parameter has a gradient, the
# optimizer changes nothing, and the network keeps guessing; the result that the article shows cannot come from the code
# that it prints. The line is in place here.

# %% [markdown] lang="zh"
# ## 训练：`train_ch6`
#
# Xavier 均匀初始化、交叉熵、普通的随机梯度下降、学习率 0.9、批量 256、10 轮。配方 `d2l` 与之完全一致。`d2l` 的曲线边训练边画；
# 在笔记本里我们也一样。（这里的输出是在一台繁忙机器的单个核心上得到的；速度的严格比较见 RESULTS.md。）
#
# **注意：** 第三篇文章给出的这个函数缺少 `l.backward()`。这样所有参数都没有梯度，优化器什么也不改变，网络只能靠猜；文章给出的
# 结果不可能来自它印出的代码。这里已补上这一行。


# %% tags=["left"]
def try_gpu():
    name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def train_ch6(net, train_iter, test_iter, num_epochs, lr, device):
    def init_weights(m):
        if type(m) is nn.Linear or type(m) is nn.Conv2d:
            nn.init.xavier_uniform_(m.weight)

    net.apply(init_weights)
    print("training on", device)
    net.to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    loss = nn.CrossEntropyLoss()
    curves, seconds, num_batches = [], 0, len(train_iter)
    for epoch in range(num_epochs):
        total, right, count = 0, 0, 0
        net.train()
        for i, (X, y) in enumerate(train_iter):
            start = time.perf_counter()
            optimizer.zero_grad()
            X, y = X.to(device), y.to(device)
            y_hat = net(X)
            l = loss(y_hat, y)
            l.backward()
            optimizer.step()
            with torch.no_grad():
                total += l.item() * X.shape[0]
                right += (y_hat.argmax(axis=1) == y).sum().item()
                count += X.shape[0]
            seconds += time.perf_counter() - start
            if (i + 1) % max(num_batches // 5, 1) == 0:
                x = epoch + (i + 1) / num_batches
                curves.append((x, total / count, right / count))
        test_acc = evaluate_accuracy_gpu(net, test_iter)
    print(
        f"loss {total / count:.3f}, train acc {right / count:.3f}, "
        f"test acc {test_acc:.3f}"
    )
    print(f"{count * num_epochs / seconds:.1f} examples/sec on {device}")
    return curves


lr = 0.9
curves = train_ch6(net, train_iter, test_iter, epochs, lr, try_gpu())
plt.figure(figsize=(3.5, 2.5))
plt.plot(*zip(*[(x, loss) for x, loss, _ in curves]), label="train loss")
plt.plot(*zip(*[(x, acc) for x, _, acc in curves]), "--", label="train acc")
plt.xlabel("epoch")
plt.legend()
plt.show()

# %% tags=["right"]
run = lenet.train("d2l", data=fashion, epochs=epochs, out="runs/d2l")
print(run.words)
print(f"{run.examples_per_second:.1f} examples/sec on {run.device}")

# %% [markdown] lang="en"
# *Careful:* the articles report test accuracies of 0.779 and 0.795 for the same recipe. Neither is wrong: with five seeds
# we get 0.786 to 0.818. One run is not a result; `lenet train d2l --seed 1` is another. A result is a mean with its
# spread.
#
# The ten scores become probabilities by softmax. The report of the run has the error of each class, the confusions and
# the calibration of these probabilities.

# %% [markdown] lang="zh"
# **注意：** 同一个配方，文章给出的测试精度是 0.779 和 0.795。两个数都没有错：我们用五个种子得到 0.786 到 0.818。单次运行
# 不算结果，`lenet train d2l --seed 1` 就会得到另一个数。结果应当是均值及其离散程度。
#
# 十个得分经 softmax 变成概率。运行报告里有各类的错误率、混淆情况，以及这些概率的校准情况。

# %% tags=["left"]
X, y = next(iter(test_iter))
net.cpu().eval()
with torch.no_grad():
    probabilities = torch.softmax(net(X[:1]), dim=1)
print(probabilities.argmax().item(), "true:", y[0].item())

# %% tags=["right"]
with torch.no_grad():
    scores = run.model(run.model.prepare(clothes.test.images[:1]))
print(clothes.classes[scores.argmax()], f"{scores.softmax(1).max():.2f}")
print(run.report.per_class[0])

# %% [markdown] lang="en"
# ## LeNet5s
#
# The fourth article builds C3 from four small convolutions: six maps of three neighbours share one, six maps of four
# neighbours another, three maps of four with a gap the third, and the last map reads all six.
#
# *Careful:* its text gives C3 1,516 parameters, a set of kernels for each map, as in the paper. Its code shares one set
# within each group: 429 parameters in C3, 59,719 in all. `lenet.LeNet5` is the one, `lenet.LeNet5s` the other. The
# printed `forward` also leaves a `print` in, and builds the output of C3 on the CPU whatever the device; both are
# mended here.

# %% [markdown] lang="zh"
# ## LeNet5s
#
# 第四篇文章用四个小卷积组成 C3：读取三个相邻特征图的六个输出共用一个，读取四个相邻特征图的六个输出共用一个，读取四个、
# 中间有间隔的三个输出共用第三个，最后一个输出读取全部六个。
#
# **注意：** 文章正文说 C3 有 1,516 个参数，即每个特征图各有一组卷积核，与论文一致。代码却在每组内共用一组：C3 有 429 个参数，
# 全网 59,719 个。`lenet.LeNet5` 是前者，`lenet.LeNet5s` 是后者。原文的 `forward` 里还留着一个 `print`，并且不论使用什么设备
# 都在 CPU 上构造 C3 的输出；这里都已改正。


# %% tags=["left"]
class LeNet5s(nn.Module):
    def __init__(self):
        super().__init__()
        self.C1 = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU())
        self.S2 = nn.AvgPool2d(kernel_size=2)
        self.C3_unit_6x3 = nn.Conv2d(3, 1, 5)
        self.C3_unit_6x4 = nn.Conv2d(4, 1, 5)
        self.C3_unit_3x4_pop1 = nn.Conv2d(4, 1, 5)
        self.C3_unit_1x6 = nn.Conv2d(6, 1, 5)
        self.S4 = nn.AvgPool2d(kernel_size=2)
        self.fc1 = nn.Sequential(nn.Linear(16 * 5 * 5, 120), nn.ReLU())
        self.fc2 = nn.Sequential(nn.Linear(120, 84), nn.ReLU())
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = self.S2(self.C1(x))
        maps = []
        for i in range(6):
            idx = [j % 6 for j in range(i, i + 3)]
            maps.append(self.C3_unit_6x3(x[:, idx]))
        for i in range(6):
            idx = [j % 6 for j in range(i, i + 4)]
            maps.append(self.C3_unit_6x4(x[:, idx]))
        for i in range(3):
            idx = [j % 6 for j in range(i, i + 5)]
            idx = idx[:2] + idx[3:]
            maps.append(self.C3_unit_3x4_pop1(x[:, idx]))
        maps.append(self.C3_unit_1x6(x))
        x = self.S4(torch.relu(torch.cat(maps, dim=1)))
        x = x.view(x.size(0), -1)
        return self.fc3(self.fc2(self.fc1(x)))


article = LeNet5s()
print(sum(p.numel() for p in article.parameters()))

# %% tags=["right"]
model = lenet.LeNet5s()
lenet.copy_weights(article, model)
x = torch.randn(128, 1, 32, 32)
print(sum(p.numel() for p in model.parameters()))
print(tuple(model(x).shape))
print((article(x) - model(x)).abs().max().item() < 1e-6)
for name in ("LeNet5", "LeNet5s"):
    rows = {row.name: row for row in lenet.summary(name)}
    print(name, "C3:", rows["C3"].parameters)

# %% [markdown] lang="en"
# ### Its training and validation
#
# Images resized to 32×32 and normalised with MNIST's mean and standard deviation; one-hot targets and the mean squared
# error; batches of 32, SGD 0.01 with momentum 0.9; the mean loss every 100 steps. That is the recipe `lenet5s`.
# The printed loop makes a `LeNet5()`, a class that the article never defines; it means `LeNet5s()`.

# %% [markdown] lang="zh"
# ### 训练与验证
#
# 图像缩放到 32×32，用 MNIST 的均值和标准差归一化；独热目标与均方误差；批量 32，SGD 学习率 0.01、动量 0.9；每 100 步打印
# 一次平均损失。这就是配方 `lenet5s`。原文的循环创建的是 `LeNet5()`，文章并没有定义这个类；应当是 `LeNet5s()`。


# %% tags=["left"]
def transform(images):
    pixels = torch.tensor(images)[:, None] / 255
    pixels = F.interpolate(pixels, size=(32, 32), mode="bilinear")
    return (pixels - 0.1307) / 0.3081


digits = lenet.data.load(mnist)
labels = torch.tensor(digits.train.labels)
trainset = TensorDataset(transform(digits.train.images), labels)
trainloader = DataLoader(trainset, batch_size=32, shuffle=True)
net = LeNet5s()
criterion = nn.MSELoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
for epoch in range(min(epochs, 2)):  # the article: 10
    running_loss = 0.0
    for i, (inputs, labels) in enumerate(trainloader):
        one_hot = torch.zeros(labels.size(0), 10)
        one_hot = one_hot.scatter_(1, labels.view(-1, 1), 1.0)
        optimizer.zero_grad()
        loss = criterion(net(inputs), one_hot)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        if i % 100 == 99:
            if i % 600 == 599:  # the article prints all
                print(f"[{epoch + 1}, {i + 1}] loss: {running_loss / 100:.3f}")
            running_loss = 0.0
torch.save(net.state_dict(), "model.pth")

net = LeNet5s()
net.load_state_dict(torch.load("model.pth"))
with torch.no_grad():
    predicted = net(transform(digits.test.images)).argmax(1)
correct = (predicted == torch.tensor(digits.test.labels)).sum().item()
print(f"{100 * correct / len(predicted):.2f}%")

# %% tags=["right"]
run = lenet.train(
    "lenet5s",
    data=mnist,
    epochs=min(epochs, 2),
    print_every=600,
    out="runs/lenet5s",
)
digits = lenet.data.load(mnist)
report = lenet.evaluate(run.path, digits.test)
print(f"{report.accuracy:.2%}")

# %% [markdown] lang="en"
# ## Convolution from first principles
#
# The fifth article computes a convolution by hand, makes it a layer, and learns a kernel from an image and its edges.
# `lenet.primitives` has all of its operations; [first principles](first-principles.md) explains them one by one.
#
# *Careful:* the article calls `corr2d` without giving it; it is d2l's, below. "Epoch" in its loop is one step, and only
# the weight is updated: a step on the bias as well would make the loss explode. What it calls translation
# *invariance* is, for a convolution, *equivariance*: the answer moves along with the image. Locality needs |a| > Δ and
# |b| > Δ, not a, b > Δ. And the feature map is the output of a convolution layer, not the layer.

# %% [markdown] lang="zh"
# ## 从零实现卷积
#
# 第五篇文章手工计算卷积，把它写成一个层，再从一幅图像及其边缘学出卷积核。`lenet.primitives` 包含其中所有运算，
# [卷积的基本原理](first-principles.md)逐一讲解。
#
# **注意：** 文章调用了 `corr2d` 却没有给出定义；下面是 d2l 的写法。循环里的“epoch”其实是一步，而且只更新权重：若同时更新偏置，
# 损失会发散。文章所说的平移**不变性**，对卷积而言其实是**等变性**：图像移动，结果随之移动。局部性的条件是 |a| > Δ、|b| > Δ，
# 而不是 a, b > Δ。另外，特征图是卷积层的输出，而不是卷积层本身。


# %% tags=["left"]
def corr2d(X, K):
    h, w = K.shape
    Y = torch.zeros((X.shape[0] - h + 1, X.shape[1] - w + 1))
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            Y[i, j] = (X[i : i + h, j : j + w] * K).sum()
    return Y


class Conv2D(nn.Module):
    def __init__(self, kernel_size):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(kernel_size))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return corr2d(x, self.weight) + self.bias


X = torch.ones((6, 8))
X[:, 2:6] = 0
Y = corr2d(X, torch.tensor([[1.0, -1.0]]))
torch.manual_seed(0)
conv2d = Conv2D(kernel_size=(1, 2))
lr = 3e-2
for i in range(10):
    Y_hat = conv2d(X)
    l = (Y_hat - Y) ** 2
    conv2d.zero_grad()
    l.sum().backward()
    conv2d.weight.data[:] -= lr * conv2d.weight.grad
    if (i + 1) % 2 == 0:
        print(f"epoch {i + 1}, loss {l.sum():.3f}")
print(conv2d.weight.data)

# %% tags=["right"]
from lenet import primitives

K = torch.tensor([[1.0, -1.0]])
print(torch.equal(primitives.corr2d(X, K), Y))
start = torch.Generator().manual_seed(0)
kernel, losses = primitives.learn_kernel(X, Y, (1, 2), generator=start)
print(kernel)

# %% [markdown] lang="en"
# Padding and stride, channels, 1×1 convolution, pooling. The article gives only formulas and pictures for these;
# PyTorch's own functions are on the left.
#
# *Careful:* the book's p_h counts the padding of both sides, PyTorch's and ours that of each side.

# %% [markdown] lang="zh"
# 填充与步幅、通道、1×1 卷积、汇聚。对这些内容文章只给出公式和插图；左边用的是 PyTorch 自带的函数。
#
# **注意：** 书中的 p_h 是两侧填充之和，PyTorch 和我们的则是每一侧的填充。

# %% tags=["left"]
X = torch.arange(2 * 5 * 5.0).reshape(2, 5, 5)
K = torch.arange(3 * 2 * 3 * 3.0).reshape(3, 2, 3, 3)
Y = F.conv2d(X[None], K, padding=1, stride=2)[0]
print(tuple(Y.shape), (5 + 2 * 1 - 3) // 2 + 1)
one = torch.rand(4, 2, 1, 1)
print(tuple(F.conv2d(X[None], one)[0].shape))
largest = F.max_pool2d(X[None], 2, stride=2)[0]
mean = F.avg_pool2d(X[None], 2, stride=2)[0]
print(largest[0])

# %% tags=["right"]
ours = primitives.corr2d_multi_in_out(X, K, padding=1, stride=2)
print(torch.equal(ours, Y), primitives.output_size(5, k=3, p=1, s=2))
print(tuple(primitives.corr2d_multi_in_out_1x1(X, one).shape))
print(torch.equal(primitives.pool2d(X, 2, "max", stride=2), largest))
print(torch.equal(primitives.pool2d(X, 2, "avg", stride=2), mean))
print(primitives.receptive_field([(5, 2, 1), (2, 0, 2), (5, 0, 1)]))

# %% [markdown] lang="en"
# ## What can be changed
#
# The fifth article lists what may improve the network: the size of the kernels, the number of channels, the activation,
# the number of convolutions and of fully connected layers, the learning rate, the initial weights, the number of epochs.
# By hand, each change rewrites the network and its sizes. Here each is a keyword, and on the command line a flag.

# %% [markdown] lang="zh"
# ## 可以调整的地方
#
# 第五篇文章列出了可能改进网络的因素：卷积核大小、通道数、激活函数、卷积层数、全连接层数、学习率、初始化、轮数。手工修改时，
# 每一项都要重写网络并重新计算尺寸。在这里每一项都是一个关键字参数，在命令行上则是一个选项。

# %% tags=["left"]
wider = nn.Sequential(
    nn.Conv2d(1, 8, kernel_size=3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(8, 24, kernel_size=3),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(24 * 6 * 6, 100),
    nn.ReLU(),
    nn.Linear(100, 10),
)
print(sum(p.numel() for p in wider.parameters()))

# %% tags=["right"]
run = lenet.train(
    "d2l",
    data=fashion,
    kernel_sizes=(3, 3),
    padding=(1,),
    channels=(8, 24),
    activation="relu",
    pooling="max",
    hidden=(100,),
    init="kaiming-uniform",
    lr=0.1,
    epochs=epochs,
    out="runs/wider",
)
print(lenet.summary(run.path).parameters)
print(run.words)

# %% [markdown] lang="en"
# `lenet sweep d2l --vary lr=0.03..1:log --vary activation=sigmoid,relu` looks for good values by itself, on images held
# out from the training set ([machines](machines.md)).
#
# ## A digit of your own
#
# The articles stop at the test set. A photograph of a digit is larger, darker and off-centre; the network has only seen
# white digits in the middle of black. `lenet.Predictor` finds the digit, brings it into that form, and says when it is
# not sure. Replace `picture` by the path of a photograph.

# %% [markdown] lang="zh"
# `lenet sweep d2l --vary lr=0.03..1:log --vary activation=sigmoid,relu` 会自动寻找合适的取值，用的是从训练集中留出的图像
# （见[多机](machines.md)）。
#
# ## 自己写的数字
#
# 文章止步于测试集。照片里的数字更大、更暗，也不在正中，而网络只见过黑底正中的白色数字。`lenet.Predictor` 会找到数字，
# 把它变成网络所见的样子，没有把握时也会说明。把 `picture` 换成照片的路径即可。

# %% tags=["left"]
from PIL import Image, ImageDraw

picture = Image.new("L", (300, 200), 230)
pen = ImageDraw.Draw(picture)
pen.line([(110, 50), (190, 50), (140, 160)], 40, 14, joint="curve")
small = np.asarray(picture.resize((28, 28)))
with torch.no_grad():
    print(net(transform(small[None])).argmax().item())

# %% tags=["right"]
answer = lenet.Predictor().predict(picture)
print(answer.label, answer.rejected, answer.reason, answer.box)
answer

# %% [markdown] lang="en"
# Several digits, as in postal codes or on cheques, are read by `lenet.Reader` ([tutorial](read-your-pictures.md)).

# %% [markdown] lang="zh"
# 多个数字（例如邮政编码、支票金额）由 `lenet.Reader` 识别（见[教程](read-your-pictures.md)）。

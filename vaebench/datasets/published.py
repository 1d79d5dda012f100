"""The published files of downloaded data sets: addresses, md5 sums, digests of their content."""

from typing import Any

from vaebench.datasets.files import RemoteFiles

IDX_FILES = tuple(
    f"{part}-{kind}-ubyte.gz"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)
_MNIST = (  # sha256 of what IDX_FILES unpack to
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
_FASHION_MNIST = (
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)


def mnist_files() -> RemoteFiles:
    """Describe MNIST's files, http://yann.lecun.com/exdb/mnist/."""
    from torchvision.datasets import MNIST

    return _described("mnist", MNIST, _MNIST, "VAEBENCH_MNIST_MIRROR")


def fashion_mnist_files() -> RemoteFiles:
    """Describe Fashion-MNIST's files, https://github.com/zalandoresearch/fashion-mnist."""
    from torchvision.datasets import FashionMNIST

    return _described("fashion-mnist", FashionMNIST, _FASHION_MNIST)


def kmnist_files() -> RemoteFiles:
    """Describe Kuzushiji-MNIST's files, https://github.com/rois-codh/kmnist."""
    from torchvision.datasets import KMNIST

    return _described("kmnist", KMNIST, ())


def cifar10_files() -> RemoteFiles:
    """Describe CIFAR-10's archive, https://www.cs.toronto.edu/~kriz/cifar.html."""
    from torchvision.datasets import CIFAR10

    base = CIFAR10.url.rpartition("/")[0]
    return RemoteFiles("cifar10", ".", (base,), {CIFAR10.filename: CIFAR10.tgz_md5})


def svhn_files() -> RemoteFiles:
    """Describe the files of SVHN's cropped digits, http://ufldl.stanford.edu/housenumbers/."""
    from torchvision.datasets import SVHN

    listed = [SVHN.split_list[part] for part in ("train", "test")]
    base = listed[0][0].rpartition("/")[0]
    return RemoteFiles("svhn", ".", (base,), {name: md5 for _, name, md5 in listed})


def _described(
    name: str, kind: Any, unpacked: tuple[str, ...], mirror_variable: str | None = None
) -> RemoteFiles:
    return RemoteFiles(
        name=name,
        folder=f"{kind.__name__}/raw",
        mirrors=tuple(kind.mirrors),
        md5=dict(kind.resources),
        mirror_variable=mirror_variable,
        unpacked=dict(zip(IDX_FILES, unpacked, strict=True)) if unpacked else {},
    )

"""Nets made of parts whose layers keep their published names."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

__all__ = ["PublishedNames", "part_names", "renamed"]


class PublishedNames(nn.Module):
    """A net whose state dict has the published names of layers, whatever part of the net they are
    in.

    Layers are also found, replaced and deleted as attributes with these names (``net.conv1_1``).
    ``named_parameters`` and ``named_modules`` give the path of each in the net instead, such as
    ``trunks.main.conv1_1.weight``, which torch.export relies on; state dicts with these paths load
    as well.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loading: tuple[str, list[str], int] | None = None
        self.register_state_dict_post_hook(_publish)
        self.register_load_state_dict_post_hook(_publish_messages)

    @abstractmethod
    def published_names(self) -> dict[str, str]:
        """The path of every layer in the net, such as trunks.main.conv1_1, by its published
        name."""

    def aliases(self) -> dict[str, str]:
        """The paths of layers by other names, those in published state dicts of other programs."""
        return {}

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            path = self._path(name)
            if path is None:
                raise
        return getattr(*_owner(self, path))

    def __setattr__(self, name: str, value: Any) -> None:
        path = None if name in self.__dict__ else self._path(name)
        if path is None:
            super().__setattr__(name, value)
        else:
            setattr(*_owner(self, path), value)

    def __delattr__(self, name: str) -> None:
        path = self._path(name)
        if path is None:
            super().__delattr__(name)
        else:
            delattr(*_owner(self, path))

    def _path(self, name: str) -> str | None:
        """The path of the layer called ``name``; None for other names, and until the parts
        exist."""
        has_parts = "heads" in self.__dict__.get("_modules", {})
        return self.published_names().get(name) if has_parts else None

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        names = self.published_names()
        names = {**self.aliases(), **names}
        for key in [key for key in state_dict if key.startswith(prefix)]:
            path = renamed(key[len(prefix) :], names)
            if path is not None:
                state_dict[prefix + path] = state_dict.pop(key)
        self._loading = prefix, error_msgs, len(error_msgs)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def part_names(path: str, published: str, part: nn.Module) -> list[tuple[str, str]]:
    """The layers, parameters and buffers directly in ``part``: published name, path in the net.

    Args:
        path: that of ``part``, with a dot at its end.
        published: the beginning of the published names.
    """
    names = (*part._modules, *part._parameters, *part._buffers)
    return [(f"{published}{name}", f"{path}{name}") for name in names]


def _owner(net: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The part that holds the layer at ``path``, and its name there."""
    parent, _, name = path.rpartition(".")
    return net.get_submodule(parent), name


def renamed(key: str, names: dict[str, str]) -> str | None:
    """``key`` with the longest beginning that is in ``names`` replaced; None if there is none."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        found = names.get(".".join(parts[:length]))
        if found is not None:
            return ".".join([found, *parts[length:]])
    return None


def _paths(net: PublishedNames) -> dict[str, str]:
    """Published names by path."""
    return {path: name for name, path in net.published_names().items()}


def _publish(
    net: PublishedNames, state_dict: dict[str, Tensor], prefix: str, local_metadata: dict[str, Any]
) -> None:
    """Renames the keys of a state dict while it is made. They keep their order."""
    paths = _paths(net)
    for key in [key for key in state_dict if key.startswith(prefix)]:
        name = renamed(key[len(prefix) :], paths)
        state_dict[key if name is None else prefix + name] = state_dict.pop(key)
    # The version of each layer, under both names: this package reads it by path.
    metadata = getattr(state_dict, "_metadata", {})
    for key in [key for key in metadata if key.startswith(prefix)]:
        name = renamed(key[len(prefix) :], paths)
        if name is not None:
            metadata[prefix + name] = metadata[key]


def _publish_messages(net: PublishedNames, incompatible_keys: Any) -> None:
    """Puts published names in place of paths in the messages of a load."""
    if net._loading is None:
        return
    (prefix, errors, first), net._loading = net._loading, None
    paths = _paths(net)
    for keys in incompatible_keys:
        for index, key in enumerate(keys):
            name = renamed(key[len(prefix) :], paths) if key.startswith(prefix) else None
            keys[index] = key if name is None else prefix + name
    for index in range(first, len(errors)):
        for path, name in paths.items():
            errors[index] = errors[index].replace(f"{prefix}{path}.", f"{prefix}{name}.")

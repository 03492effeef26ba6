"""The names of other libraries that kernels rely on and that nobody has promised to keep.

A kernel for a flow is ipykernel's own with parts replaced (the folder `kernel/`). What these use
beyond documented interfaces stands here, once. It is looked at before anything is replaced: where a
name is missing, as with a version of ipykernel that is not known yet, kernels are plain ones (see
`ductaflow_kernels.sources.plain`).
`tests/kernels/test_interpreters.py` finds a private name that is used and not listed.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

# module, or module:class → its names that are called, replaced, overridden or set.
NAMES: Mapping[str, str] = {
    "ipykernel": "version_info",
    "ipykernel.compiler": "XCachingCompiler",
    "ipykernel.compiler:XCachingCompiler": "get_code_name",
    "ipykernel.iostream": "BackgroundSocket IOPubThread OutStream",
    "ipykernel.iostream:IOPubThread": """
        _event_pipe _event_pipes _events _handle_event _handle_pipe_msg _master_pid _pipe_flag
        _pipe_in _pipe_uuid _really_send _setup_pipe_in _setup_pipe_out background_socket io_loop
        _thread_main schedule send_multipart socket stop thread""",
    "ipykernel.iostream:OutStream": """
        _buffer_lock _buffers _flush _flush_pending _is_master_process _isatty
        _original_stdstream_copy _parent_header_global _rotate_buffers _schedule_flush closed echo
        fileno flush parent_header pub_thread session topic write""",
    "ipykernel.ipkernel": "IPythonKernel sys",
    "ipykernel.ipkernel:IPythonKernel": """
        _abort_queues _aborting _execute_sleep _forward_input _publish_status _restore_input
        _stderr _stdout _topic
        control_handlers control_thread do_execute execute_request execution_count get_parent ident
        iopub_socket iopub_thread record_ports shell_handlers shell_stream start stdin_socket""",
    "ipykernel.kernelapp": "IOPubThread IPKernelApp",
    "ipykernel.kernelapp:IPKernelApp": """
        _bind_socket _ports _session_default close configure_tornado_logger connection_file
        control_port control_socket control_thread displayhook init_code init_connection_file
        init_control init_extensions init_heartbeat init_kernel init_path init_pdb io_loop
        iopub_thread kernel kernel_class load_connection_info log_connection_info parent_handle
        patch_io write_connection_file""",
    "ipykernel.zmqshell": "ZMQInteractiveShell",
    "IPython.core.application": "BaseIPythonApplication",
    "IPython.core.application:BaseIPythonApplication": """
        init_config_files init_profile_dir initialize load_config_file""",
    "IPython.core.interactiveshell": "InteractiveShell",
    "IPython.core.interactiveshell:InteractiveShell": """
        _showtraceback run_cell showsyntaxerror showtraceback transform_cell""",
    "IPython.core.profiledir:ProfileDir": """
        check_dirs check_log_dir check_pid_dir check_security_dir check_startup_dir location""",
    "IPython.core.shellapp:InteractiveShellApp": "_run_startup_files",
    "jupyter_client.jsonutil": "json_default parse_date",
    "jupyter_client.session": "DELIM Session adapt json_packer",
    "jupyter_client.session:Session": """
        _add_digest auth deserialize digest_history feed_identities pack packer serialize session
        sign unpack""",
    "zmq.eventloop.zmqstream:ZMQStream": """
        _handle_events flush io_loop on_recv receiving send_multipart sending socket""",
    "zmq.utils.garbage": "gc",
    "zmq.utils.garbage:GarbageCollector": "_atexit",
    # Python's own.
    "asyncio": "_set_running_loop",
    "atexit": "_ncallbacks _run_exitfuncs",
    "importlib.machinery:FileFinder": "_fill_cache",
    "os": "_Environ",
    "os:_Environ": "_data",
    "sys": "_getframe orig_argv",
    "threading": "_threading_atexits",
}

# Used from ipykernel 7 on, where one thread serves both IOPub and control.
SINCE_7: Mapping[str, str] = {
    "ipykernel.ipkernel:IPythonKernel": """
        _supports_kernel_subshells shell_channel_thread shell_main""",
    "ipykernel.kernelapp": "ShellChannelThread",
}

# Used from ipykernel 7 on, before Python 3.11.
SINCE_7_BEFORE_3_11: Mapping[str, str] = {"ipykernel.utils": "_async_in_context"}

# Used where they are there: nothing depends on them but speed, or what a seed makes of it.
IF_THERE: Mapping[str, str] = {
    "ipykernel.iostream:IOPubThread": "_handle_subscription _stopped",  # since 7.2
    "ipykernel.ipkernel": "_accepts_parameters",
    "IPython.core.interactiveshell": "_should_be_async",
    "IPython.core.profiledir:ProfileDir": "check_static_dir",  # IPython 7
    "multiprocessing.process:BaseProcess": "_config",
    "numpy.random": "_bit_generator _rand",
}


# Used by conductors, in their own interpreter.
OF_CONDUCTORS: Mapping[str, str] = {
    "jupyter_client.provisioning.local_provisioner:LocalProvisioner": """
        cleanup connection_info has_process kill launch_kernel poll send_signal terminate wait""",
    "subprocess:Popen": "_waitpid_lock",
}

# What comes of a name that is missing, or takes other arguments.
OF_ANOTHER_VERSION = (AttributeError, ImportError, NameError, TypeError)


def unknown() -> str:
    """What `requirements.unfit` is to say of names that are missing; empty if none are."""
    try:
        gone = missing()
    except OF_ANOTHER_VERSION:
        return failed()
    if not gone:
        return ""
    others = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
    return f"is not known yet: it has no {', '.join(gone[:3])}{others}"


def failed() -> str:
    """What `requirements.unfit` is to say of the error that is being handled."""
    error = sys.exc_info()[1]
    return f"is not known yet: {type(error).__name__}: {error}"


def one_thread() -> bool:
    """Whether one thread can serve both IOPub and control: with ipykernel 7 or later."""
    import ipykernel

    return int(ipykernel.version_info[0]) >= 7


def missing() -> list[str]:
    """The names that are relied on and are not there, as `module.Class.name`."""
    tables = [NAMES, SINCE_7] if one_thread() else [NAMES]
    if one_thread() and sys.version_info < (3, 11):
        tables.append(SINCE_7_BEFORE_3_11)
    return [f"{place}.{name}" for table in tables for place, name in missing_of(table)]


def missing_of(table: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Those of one table, as `module.Class` and name."""
    for place, names in table.items():
        module, _, cls = place.partition(":")
        try:
            holder = importlib.import_module(module)
            holder = getattr(holder, cls) if cls else holder
        except (ImportError, AttributeError):
            yield module, cls or "*"
            continue
        for name in names.split():
            if not knows(holder, name):
                yield place.replace(":", "."), name


def knows(holder: Any, name: str) -> bool:
    """Whether a module or class has a name, or a method of the class that sets it on instances."""
    if hasattr(holder, name):
        return True
    if not isinstance(holder, type):
        return False
    members = (member for base in holder.__mro__ for member in vars(base).values())
    return any(name in code.co_names for member in members for code in _codes(member))


def _codes(member: Any) -> Iterator[types.CodeType]:
    """The code of a method or property, and of functions within it."""
    functions = (member.fget, member.fset) if isinstance(member, property) else (member,)
    for function in functions:
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        if isinstance(code, types.CodeType):
            yield code
            yield from (inner for inner in code.co_consts if isinstance(inner, types.CodeType))

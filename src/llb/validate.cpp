// What every operation must satisfy on its own, indices against its inputs included, so
// that whoever executes it need not check again.
#include "llb/load.hpp"

namespace cooper::llb {

namespace {

Result<> check_input(std::string_view what, std::int64_t index, std::size_t count) {
    if (index == kEmpty || (index >= 0 && static_cast<std::uint64_t>(index) < count)) return {};
    return bad_input("invalid {} index {}, the operation has {} inputs", what, index, count);
}

Result<> check_output(std::int64_t index) {
    if (index >= kSkipOutput) return {};
    return bad_input("invalid output index {}", index);
}

Result<> check(const ExecOp& exec, std::size_t inputs) {
    if (exec.meta.args.empty()) return bad_input("invalid exec op with no args");
    if (exec.mounts.empty()) return bad_input("invalid exec op with no mounts");
    bool root = false;
    for (const Mount& mount : exec.mounts) {
        TRY(check_input("mount input", mount.input, inputs));
        TRY(check_output(mount.output));
        if (mount.dest != kRootMount) continue;
        root = true;
        if (mount.type != MountType::bind) return bad_input("invalid mount type for the root of an exec op");
    }
    if (!root) return bad_input("invalid exec op with no rootfs");
    return {};
}

// An action may use the op's inputs and the results of earlier actions (which also rules out loops).
Result<> check_owner(const std::optional<ChownOpt>& owner, std::size_t limit) {
    if (!owner) return {};
    for (const auto* user : {&owner->user, &owner->group}) {
        if (!*user) continue;
        if (const auto* named = std::get_if<NamedUser>(&**user)) TRY(check_input("user", named->input, limit));
    }
    return {};
}

Result<> check(const FileOp& file, std::size_t inputs) {
    if (file.actions.empty()) return bad_input("invalid file op with no actions");
    std::vector<bool> outputs(file.actions.size(), false);
    std::size_t output_count = 0;
    for (std::size_t i = 0; i < file.actions.size(); ++i) {
        const FileAction& action = file.actions[i];
        const std::size_t limit = inputs + i;
        TRY(check_input("input", action.input, limit));
        TRY(check_input("secondary input", action.secondary_input, limit));
        TRY(check_output(action.output));
        if (action.output != kSkipOutput) {
            const auto output = static_cast<std::uint64_t>(action.output);
            if (output >= outputs.size()) return bad_input("missing output index {}", output_count);
            if (outputs[output]) return bad_input("duplicate output {}", output);
            outputs[output] = true;
            ++output_count;
        }
        TRY(std::visit(
            [&]<class Action>(const Action& what) -> Result<> {
                if constexpr (std::is_same_v<Action, std::monostate>) {
                    return bad_input("invalid file op with an empty action");
                } else if constexpr (requires { what.owner; }) {
                    return check_owner(what.owner, limit);
                } else {
                    return {};
                }
            },
            action.action));
    }
    if (output_count == 0) return bad_input("no outputs specified");
    for (std::size_t i = 0; i < output_count; ++i) {
        if (!outputs[i]) return bad_input("missing output index {}", i);
    }
    return {};
}

Result<> check(const SourceOp& source, std::size_t inputs) {
    if (inputs != 0) return bad_input("invalid source op with inputs");
    if (source.identifier.find("://") == std::string::npos) {
        return bad_input("invalid source identifier {}", source.identifier);
    }
    return {};
}

Result<> check(const BuildOp& build, std::size_t inputs) {
    if (build.builder != -1) return bad_input("only the LLB builder is allowed in a build op");
    for (const auto& [name, input] : build.inputs) TRY(check_input("build input", input, inputs));
    return {};
}

Result<> check(const MergeOp& merge, std::size_t inputs) {
    if (merge.inputs.size() != inputs) {
        return bad_input("invalid merge op with {} inner inputs and {} outer inputs", merge.inputs.size(), inputs);
    }
    for (const std::int64_t input : merge.inputs) TRY(check_input("merge input", input, inputs));
    return {};
}

Result<> check(const DiffOp& diff, std::size_t inputs) {
    if (diff.lower < kEmpty || diff.upper < kEmpty) {
        return bad_input("invalid diff op with nil lower or upper input");
    }
    TRY(check_input("lower", diff.lower, inputs));
    return check_input("upper", diff.upper, inputs);
}

Result<> check(const PassthroughOp& pass, std::size_t inputs) {
    if (pass.id.empty()) return bad_input("invalid passthrough op with no id");
    if (pass.outputs.empty()) return bad_input("invalid passthrough op with no outputs");
    for (const std::int64_t output : pass.outputs) {
        if (output < 0 || static_cast<std::uint64_t>(output) >= inputs) {
            return bad_input("invalid passthrough output input index {}", output);
        }
    }
    return {};
}

Result<> check(const std::monostate& /*none*/, std::size_t /*inputs*/) { return bad_input("invalid empty op"); }

}  // namespace

Result<> validate(const Op& op) {
    for (const Input& input : op.inputs) {
        if (input.index < 0) return bad_input("invalid negative output index {} of an input", input.index);
    }
    return std::visit([&](const auto& body) { return check(body, op.inputs.size()); }, op.body);
}

}  // namespace cooper::llb

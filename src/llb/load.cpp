#include "llb/load.hpp"

#include "base/text.hpp"
#include "llb/marshal.hpp"

#include <algorithm>
#include <unordered_map>

namespace cooper::llb {

namespace {

// A graph can be small in bytes and its default names huge: merge of merge of merge. BuildKit builds
// them in full; we cut.
constexpr std::size_t kMaxName = 4096;

std::string action_name(const FileAction& action) {
    if (const auto* copy = std::get_if<CopyAction>(&action.action)) return "copy " + copy->src + " " + copy->dest;
    if (const auto* file = std::get_if<MkFileAction>(&action.action)) return "mkfile " + file->path;
    if (const auto* dir = std::get_if<MkDirAction>(&action.action)) return "mkdir " + dir->path;
    if (const auto* rm = std::get_if<RmAction>(&action.action)) return "rm " + rm->path;
    if (const auto* link = std::get_if<SymlinkAction>(&action.action)) {
        return "symlink " + link->new_path + " -> " + link->old_path;
    }
    return {};
}

std::string side_name(std::int64_t index, const std::vector<std::string>& names) {
    if (index < 0 || static_cast<std::size_t>(index) >= names.size()) return "scratch";
    return "(" + names[static_cast<std::size_t>(index)] + ")";
}

using Known = std::unordered_map<Digest, std::size_t>;

class Loader {
public:
    explicit Loader(const Definition& definition) : definition_(definition) {}

    Result<Graph> run() {
        if (definition_.ops.empty()) return Graph{};
        if (definition_.ops.size() > kMaxOps) {
            return bad_input("invalid LLB with {} vertexes, the limit is {}", definition_.ops.size(), kMaxOps);
        }
        TRY(parse_all());
        if (definition_.ops.size() < 2) return bad_input("invalid LLB with {} vertexes", definition_.ops.size());
        const Op terminal = TRY(parse_op(definition_.ops.back()));
        if (terminal.inputs.empty()) return bad_input("invalid LLB with no inputs on last vertex");
        const Input& wanted = terminal.inputs.front();
        if (wanted.index < 0) return bad_input("invalid output index {} of the result", wanted.index);
        const std::size_t target = TRY(visit(wanted.digest));
        graph_.target = Edge{target, wanted.index};
        return std::move(graph_);
    }

private:
    struct Pending {
        Digest digest;
        std::size_t next_input = 0;
    };

    Result<> parse_all() {
        for (std::size_t i = 0; i + 1 < definition_.ops.size(); ++i) {
            const std::string& bytes = definition_.ops[i];
            if (bytes.size() > kMaxOpBytes) return bad_input("LLB vertex of {} bytes is too large", bytes.size());
            const Digest digest = op_digest(bytes);
            if (parsed_.contains(digest)) continue;
            Op op = TRY(parse_op(bytes));
            TRY_CONTEXT(validate(op), "LLB vertex {}", digest.to_string());
            parsed_.emplace(digest, std::move(op));
        }
        return {};
    }

    // Depth first without recursion: a hostile chain may be as long as kMaxOps.
    Result<std::size_t> visit(const Digest& target) {
        std::vector<Pending> stack;
        stack.push_back({target, 0});
        while (!stack.empty()) {
            Pending& top = stack.back();
            if (known_.contains(top.digest)) {
                stack.pop_back();
                continue;
            }
            const auto found = parsed_.find(top.digest);
            if (found == parsed_.end()) return bad_input("invalid missing input digest {}", top.digest.to_string());
            const Op& op = found->second;
            if (top.next_input < op.inputs.size()) {
                const Digest& input = op.inputs[top.next_input++].digest;
                if (!known_.contains(input)) stack.push_back({input, 0});
                // Hashes make loops impossible, unless sha256 is broken; then stop instead of spinning.
                if (stack.size() > parsed_.size() + 1) return bad_input("invalid LLB with a loop");
                continue;
            }
            finish(top.digest, found->second);
            stack.pop_back();
        }
        return known_.at(target);
    }

    void finish(const Digest& digest, Op& op) {
        LoadedVertex vertex;
        vertex.digest = digest;
        std::vector<std::string> names;
        for (const Input& input : op.inputs) {
            const std::size_t index = known_.at(input.digest);
            vertex.inputs.push_back({index, input.index});
            names.push_back(graph_.vertices[index].name);
        }
        const std::string key = digest.to_string();
        if (const auto found = definition_.metadata.find(key); found != definition_.metadata.end()) {
            vertex.metadata = found->second;
        }
        const auto custom = vertex.metadata.description.find(std::string(kCustomName));
        vertex.name = custom != vertex.metadata.description.end() ? custom->second : default_name(op, names);
        vertex.locations = locations_of(key);
        vertex.op = std::move(op);
        known_.emplace(digest, graph_.vertices.size());
        graph_.vertices.push_back(std::move(vertex));
    }

    [[nodiscard]] std::vector<SourceRange> locations_of(const std::string& key) const {
        std::vector<SourceRange> out;
        if (!definition_.source) return out;
        const auto found = definition_.source->locations.find(key);
        if (found == definition_.source->locations.end()) return out;
        for (const Location& location : found->second) {
            const auto index = static_cast<std::size_t>(location.source_index);
            if (location.source_index < 0 || index >= definition_.source->infos.size()) continue;
            for (const Range& range : location.ranges) {
                out.push_back({definition_.source->infos[index].filename, range.start.line, range.end.line,
                               range.start.character, range.end.character});
            }
        }
        return out;
    }

    const Definition& definition_;
    std::unordered_map<Digest, Op> parsed_;
    Known known_;
    Graph graph_;
};

}  // namespace

const LoadedVertex* Graph::find(const Digest& digest) const {
    const auto found = std::ranges::find(vertices, digest, &LoadedVertex::digest);
    return found == vertices.end() ? nullptr : &*found;
}

std::string default_name(const Op& op, const std::vector<std::string>& input_names) {
    std::string name;
    if (const auto* source = std::get_if<SourceOp>(&op.body)) {
        name = source->identifier;
    } else if (const auto* exec = std::get_if<ExecOp>(&op.body)) {
        name = join(exec->meta.args, " ");
    } else if (const auto* file = std::get_if<FileOp>(&op.body)) {
        for (const FileAction& action : file->actions) {
            if (!name.empty()) name += ", ";
            name += action_name(action);
        }
    } else if (std::holds_alternative<BuildOp>(op.body)) {
        name = "build";
    } else if (std::holds_alternative<MergeOp>(op.body)) {
        name = "merge (" + join(input_names, ", ") + ")";
    } else if (const auto* diff = std::get_if<DiffOp>(&op.body)) {
        name = "diff " + side_name(diff->lower, input_names) + " -> " + side_name(diff->upper, input_names);
    } else if (const auto* pass = std::get_if<PassthroughOp>(&op.body)) {
        name = "passthrough " + pass->id;
    }
    if (name.size() > kMaxName) {
        name.resize(kMaxName);
        name += "...";
    }
    return name;
}

Result<Graph> load(const Definition& definition) { return Loader(definition).run(); }

}  // namespace cooper::llb

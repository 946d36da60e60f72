#include "buildctl/op_text.hpp"

#include "base/text.hpp"
#include "codec/go_json.hpp"
#include "codec/sha256.hpp"
#include "proto/ops.pb.h"

#include <algorithm>
#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <map>

namespace cooper::buildctl {

namespace {

using codec::GoJson;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

void print(GoJson& json, const Message& message);

// One element of a repeated field (index ≥ 0) or a single value.
void print_value(GoJson& json, const Message& message, const FieldDescriptor& field, int index) {
    const auto& reflection = *message.GetReflection();
    const bool repeated = index >= 0;
    switch (field.cpp_type()) {
        case FieldDescriptor::CPPTYPE_INT32:
            json.integer(repeated ? reflection.GetRepeatedInt32(message, &field, index)
                                  : reflection.GetInt32(message, &field));
            break;
        case FieldDescriptor::CPPTYPE_INT64:
            json.integer(repeated ? reflection.GetRepeatedInt64(message, &field, index)
                                  : reflection.GetInt64(message, &field));
            break;
        case FieldDescriptor::CPPTYPE_UINT32:
            json.unsigned_integer(repeated ? reflection.GetRepeatedUInt32(message, &field, index)
                                           : reflection.GetUInt32(message, &field));
            break;
        case FieldDescriptor::CPPTYPE_UINT64:
            json.unsigned_integer(repeated ? reflection.GetRepeatedUInt64(message, &field, index)
                                           : reflection.GetUInt64(message, &field));
            break;
        case FieldDescriptor::CPPTYPE_DOUBLE:
        case FieldDescriptor::CPPTYPE_FLOAT:
            json.number(repeated ? reflection.GetRepeatedDouble(message, &field, index)
                                 : reflection.GetDouble(message, &field));
            break;
        case FieldDescriptor::CPPTYPE_BOOL:
            json.boolean(repeated ? reflection.GetRepeatedBool(message, &field, index)
                                  : reflection.GetBool(message, &field));
            break;
        case FieldDescriptor::CPPTYPE_ENUM:
            json.integer(repeated ? reflection.GetRepeatedEnumValue(message, &field, index)
                                  : reflection.GetEnumValue(message, &field));
            break;
        case FieldDescriptor::CPPTYPE_STRING: {
            const std::string text =
                repeated ? reflection.GetRepeatedString(message, &field, index) : reflection.GetString(message, &field);
            if (field.type() == FieldDescriptor::TYPE_BYTES) {
                json.bytes(text);
            } else {
                json.string(text);
            }
            break;
        }
        case FieldDescriptor::CPPTYPE_MESSAGE:
            print(json, repeated ? reflection.GetRepeatedMessage(message, &field, index)
                                 : reflection.GetMessage(message, &field));
            break;
    }
}

std::string map_key(const Message& entry) {
    const auto& field = *entry.GetDescriptor()->map_key();
    const auto& reflection = *entry.GetReflection();
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) return reflection.GetString(entry, &field);
    return std::to_string(reflection.GetInt64(entry, &field));
}

void print_map(GoJson& json, const Message& message, const FieldDescriptor& field) {
    const auto& reflection = *message.GetReflection();
    std::map<std::string, const Message*> sorted;
    for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
        const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
        sorted[map_key(entry)] = &entry;
    }
    json.begin_object();
    for (const auto& [key, entry] : sorted) {
        json.key(key);
        print_value(json, *entry, *entry->GetDescriptor()->map_value(), -1);
    }
    json.end_object();
}

// What is empty is left out. The member of a oneof stands in an object of its own, named after the oneof as Go's field.
void print(GoJson& json, const Message& message) {
    const auto& reflection = *message.GetReflection();
    std::vector<const FieldDescriptor*> fields;
    reflection.ListFields(message, &fields);
    json.begin_object();
    for (const FieldDescriptor* field : fields) {
        const auto* oneof = field->real_containing_oneof();
        if (oneof != nullptr) {
            std::string name = oneof->name();
            name[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(name[0])));
            json.key(name).begin_object();
        }
        json.key(field->name());
        if (field->is_map()) {
            print_map(json, message, *field);
        } else if (field->is_repeated()) {
            json.begin_array();
            for (int i = 0; i < reflection.FieldSize(message, field); ++i) print_value(json, message, *field, i);
            json.end_array();
        } else {
            print_value(json, message, *field, -1);
        }
        if (oneof != nullptr) json.end_object();
    }
    json.end_object();
}

struct Operation {
    pb::Op op;
    std::string digest;
    const pb::OpMetadata* metadata = nullptr;
};

Result<std::vector<Operation>> parse(std::string_view bytes, pb::Definition& definition) {
    if (!definition.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
        return bad_input("this is no LLB definition");
    }
    std::vector<Operation> operations;
    for (const std::string& one : definition.def()) {
        Operation operation;
        if (!operation.op.ParseFromString(one)) return bad_input("failed to parse operation {}", operations.size());
        operation.digest = codec::sha256_of(one).to_string();
        const auto found = definition.metadata().find(operation.digest);
        if (found != definition.metadata().end()) operation.metadata = &found->second;
        operations.push_back(std::move(operation));
    }
    return operations;
}

// As Go's %q for text that is printable.
std::string go_quoted(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (c == '\n') {
            out += "\\n";
        } else if (c == '\t') {
            out += "\\t";
        } else if (static_cast<unsigned char>(c) < 0x20) {
            out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        } else {
            out += c;
        }
    }
    return out + "\"";
}

std::string action_text(const pb::FileAction& action) {
    if (action.has_copy()) return fmt::format("copy{{src={}, dest={}}}", action.copy().src(), action.copy().dest());
    if (action.has_mkfile()) return fmt::format("mkfile{{path={}}}", action.mkfile().path());
    if (action.has_mkdir()) return fmt::format("mkdir{{path={}}}", action.mkdir().path());
    if (action.has_rm()) return fmt::format("rm{{path={}}}", action.rm().path());
    if (action.has_symlink()) {
        return fmt::format("symlink{{oldpath={}, newpath={}}}", action.symlink().oldpath(), action.symlink().newpath());
    }
    return "";
}

std::pair<std::string, const char*> label_and_shape(const Operation& operation) {
    const pb::Op& op = operation.op;
    if (op.has_source()) return {op.source().identifier(), "ellipse"};
    if (op.has_exec()) {
        const auto& args = op.exec().meta().args();
        return {join({args.begin(), args.end()}, " "), "box"};
    }
    if (op.has_build()) return {"build", "box3d"};
    if (op.has_merge()) return {"merge", "invtriangle"};
    if (op.has_diff()) return {"diff", "doublecircle"};
    if (op.has_file()) {
        std::vector<std::string> names;
        for (const auto& action : op.file().actions()) names.push_back(action_text(action));
        return {join(names, ","), "note"};
    }
    return {operation.digest, "plaintext"};
}

}  // namespace

Result<std::string> definition_json(std::string_view bytes) {
    pb::Definition definition;
    std::string text;
    for (const Operation& operation : TRY(parse(bytes, definition))) {
        GoJson json;
        json.begin_object().key("Op");
        print(json, operation.op);
        json.field("Digest", operation.digest).key("OpMetadata");
        print(json, operation.metadata != nullptr ? *operation.metadata : pb::OpMetadata());
        json.end_object();
        text += json.text() + "\n";
    }
    return text;
}

Result<std::string> definition_dot(std::string_view bytes) {
    pb::Definition definition;
    const auto operations = TRY(parse(bytes, definition));
    std::string text = "digraph {\n";
    for (const Operation& operation : operations) {
        const auto [label, shape] = label_and_shape(operation);
        text +=
            fmt::format("  {} [label={} shape={}];\n", go_quoted(operation.digest), go_quoted(label), go_quoted(shape));
    }
    for (const Operation& operation : operations) {
        for (int i = 0; i < operation.op.inputs_size(); ++i) {
            std::string label;
            for (const auto& mount : operation.op.exec().mounts()) {
                if (mount.input() == i && mount.dest() != "/") label = mount.dest();
            }
            text += fmt::format("  {} -> {} [label={}];\n", go_quoted(operation.op.inputs(i).digest()),
                                go_quoted(operation.digest), go_quoted(label));
        }
    }
    return text + "}\n";
}

}  // namespace cooper::buildctl

#include "store/database.hpp"

#include "base/defer.hpp"

#include <sqlite3.h>

namespace cooper::store {

std::int64_t Row::integer(int column) const { return sqlite3_column_int64(statement_, column); }

std::string Row::text(int column) const {
    const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    if (bytes == nullptr) return {};
    return {bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

bool Row::is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

Error Database::failure(std::string_view what) const {
    const int code = sqlite3_errcode(handle_);
    const auto error = [&](Code c, std::string_view hint) {
        Error e = fail(c, Blame::world, "state database: {}: {}", what, sqlite3_errmsg(handle_));
        return hint.empty() ? e : e.with_hint(std::string(hint));
    };
    switch (code) {
        case SQLITE_FULL:
            return error(Code::resource_exhausted, "free some disk space: cooper prune");
        case SQLITE_READONLY:
        case SQLITE_CANTOPEN:
        case SQLITE_PERM:
            return error(Code::permission_denied, "the state directory must be writable: --root DIR chooses another");
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return error(Code::data_loss, "");
        case SQLITE_BUSY:
            return error(Code::unavailable, "another cooper holds the state database; try again");
        case SQLITE_IOERR:
            return error(Code::unavailable, "is the disk full or failing?");
        default:
            return error(Code::internal, "");
    }
}

Result<std::unique_ptr<Database>> Database::open(const std::string& host_path) {
    auto database = std::unique_ptr<Database>(new Database);
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    if (sqlite3_open_v2(host_path.c_str(), &database->handle_, flags, nullptr) != SQLITE_OK) {
        return database->failure("open " + host_path);
    }
    sqlite3_busy_timeout(database->handle_, 10'000);
    // NORMAL: a crash of the machine may lose the newest rows, never make wrong ones; docs/store.md.
    TRY(database->execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=67108864;"));
    return database;
}

Database::~Database() {
    for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
    // The last to close moves the log into the database and waits for the disk. Who only asked leaves that to others.
    if (handle_ != nullptr && sqlite3_total_changes64(handle_) == 0)
        sqlite3_db_config(handle_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    sqlite3_close(handle_);
}

Result<> Database::execute(const char* sql) {
    const std::lock_guard lock(mutex_);
    if (sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return failure("execute");
    return {};
}

Result<sqlite3_stmt*> Database::prepare(const char* sql) {
    auto& statement = statements_[sql];
    if (statement == nullptr &&
        sqlite3_prepare_v3(handle_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr) != SQLITE_OK) {
        return failure(sql);
    }
    return statement;
}

Result<> Database::run(const char* sql, std::span<const Value> values, const OnRow& on_row) {
    const std::lock_guard lock(mutex_);
    sqlite3_stmt* statement = TRY(prepare(sql));
    const Defer reset([&] {
        sqlite3_reset(statement);
        sqlite3_clear_bindings(statement);
    });
    int index = 0;
    for (const Value& value : values) {
        ++index;
        if (const auto* integer = std::get_if<std::int64_t>(&value)) {
            sqlite3_bind_int64(statement, index, *integer);
        } else if (const auto* text = std::get_if<std::string>(&value)) {
            sqlite3_bind_text(statement, index, text->data(), static_cast<int>(text->size()), SQLITE_STATIC);
        } else {
            sqlite3_bind_null(statement, index);
        }
    }
    while (true) {
        const int step = sqlite3_step(statement);
        if (step == SQLITE_DONE) return {};
        if (step != SQLITE_ROW) return failure(sql);
        if (on_row) on_row(Row(statement));
    }
}

Result<> Database::run(const char* sql, std::initializer_list<Value> values) {
    return run(sql, std::span(values.begin(), values.size()), nullptr);
}

Result<std::int64_t> Database::insert(const char* sql, std::initializer_list<Value> values) {
    const std::lock_guard lock(mutex_);
    TRY(run(sql, values));
    return sqlite3_last_insert_rowid(handle_);
}

std::int64_t Database::changes() const {
    const std::lock_guard lock(mutex_);
    return sqlite3_changes64(handle_);
}

Result<> Database::transaction(const std::function<Result<>()>& body) {
    const std::lock_guard lock(mutex_);
    if (depth_ == 0) TRY(execute("BEGIN IMMEDIATE"));
    ++depth_;
    const Result<> result = body();
    --depth_;
    if (depth_ > 0) return result;
    if (!result) {
        sqlite3_exec(handle_, "ROLLBACK", nullptr, nullptr, nullptr);
        return result;
    }
    if (sqlite3_exec(handle_, "COMMIT", nullptr, nullptr, nullptr) != SQLITE_OK) {
        const Error error = failure("commit");
        sqlite3_exec(handle_, "ROLLBACK", nullptr, nullptr, nullptr);
        return error;
    }
    return {};
}

}  // namespace cooper::store

-- One single-row INSERT per request. The request is the same each time, so that wrk itself costs little.
wrk.method = "POST"
wrk.path = "/db/execute"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '[["INSERT INTO bench(name, value) VALUES(?, ?)", "a name of some length", 12345]]'

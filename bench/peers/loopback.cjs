// Preloaded into Portkey's server, which listens on every interface and has no option for less: listen on 127.0.0.1 only.
const net = require("node:net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  if (typeof port === "object" && port !== null) return listen.call(this, { ...port, host: "127.0.0.1" }, ...rest);
  if (typeof rest[0] === "string" || rest[0] === undefined) rest.shift();
  return listen.call(this, port, "127.0.0.1", ...rest);
};

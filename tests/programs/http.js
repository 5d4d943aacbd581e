// SPDX-License-Identifier: BSD-2-Clause
// node http.js serve PORT: answers GET /N/SIZE with SIZE bytes made of N, and PUT with the SHA-256 of what was sent.
// node http.js get HOST PORT REQUESTS CONNECTIONS: asks over connections that are kept, compares each body; prints how many were right.
const http = require('http');
const crypto = require('crypto');

function body(n, size) {
	return Buffer.alloc(size, `${n},`);
}

function serve(port) {
	http.createServer((request, response) => {
		const [, n, size] = request.url.split('/');
		if (request.method === 'GET')
			return response.end(body(n, Number(size)));
		const hash = crypto.createHash('sha256');
		request.on('data', (chunk) => hash.update(chunk));
		request.on('end', () => response.end(`${hash.digest('hex')}\n`));
	}).listen(Number(port), '::');
}

function get(host, port, requests, connections) {
	const agent = new http.Agent({ keepAlive: true, maxSockets: Number(connections) });
	let next = 0, good = 0, sockets = new Set();
	function ask() {
		const n = next++, size = n * 7919 % 1024 + 1;
		if (n >= Number(requests))
			return;
		const request = http.get({ host, port, agent, path: `/${n}/${size}` }, (response) => {
			const parts = [];
			sockets.add(response.socket.localPort);
			response.on('data', (chunk) => parts.push(chunk));
			response.on('end', () => {
				if (!Buffer.concat(parts).equals(body(n, size)))
					throw new Error(`request ${n}: a body that is not its own`);
				if (++good === Number(requests)) {
					console.log(`${good} over ${sockets.size}`);
					agent.destroy();
				}
				ask();
			});
		});
		request.on('error', (error) => { throw error; });
	}
	for (let c = 0; c < Number(connections); c++)
		ask();
}

const [what, ...rest] = process.argv.slice(2);
({ serve, get })[what](...rest);
